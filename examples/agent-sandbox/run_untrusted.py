"""Run code that nobody vouches for: the plot below, or the file named, for so many seconds."""

import sys
from pathlib import Path

from container_provisioner.sandbox import Died, Finished, Raised, Sandbox, TimedOut, TooMuchOutput

CODE = """
import csv, matplotlib.pyplot as plt
rows = [(int(n), int(square)) for n, square in csv.reader(open("data.csv"))]
for n, square in rows:
    print(f"{n} squared is {square}")
plt.plot(*zip(*rows))
plt.show()
print(sum(square for _, square in rows), file=open("total.txt", "w"))
"""
code = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else CODE
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10

with Sandbox(memory_limit="512m", cpu_limit=1) as sandbox:
    sandbox.put("data.csv", "".join(f"{n},{n * n}\n" for n in range(10)))
    # repr: what it writes may hold escape sequences for your terminal.
    answer = sandbox.run(
        code, timeout=seconds, on_output=lambda output: print("  >", repr(output.text))
    )
    for number, image in enumerate(answer.images):
        Path(f"image-{number}.png").write_bytes(image.content)
    match answer:
        case Finished():
            print(f"finished in {answer.seconds:.1f} s, images: {len(answer.images)}")
            print("total:", sandbox.get("total.txt", limit=1000) if code is CODE else "-")
        case Raised():
            print(f"raised {answer.ename}: {answer.evalue!r}")
        case TimedOut() | TooMuchOutput():
            print(f"stopped: {type(answer).__name__}, the sandbox goes on: {answer.alive}")
        case Died():
            print(f"died ({answer.cause}): {answer.reason}")
