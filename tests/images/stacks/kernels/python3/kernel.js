alert("a script of the image")
