// move-a-device.ts
// An edu that computes moves to another machine, and computes on there. Run it:
// node examples/move-a-device.ts
import { bit, Migration, open, registers, u32 } from 'vfio-ts/driver';

const Edu = registers({ factorial: u32(0x08), status: u32(0x20, { computing: bit(0, 'ro') }) });
const address = process.argv[2] ?? 'sim:edu,factorialMs=50';
using source = await open(address);
using target = await open(process.argv[3] ?? address);
source.bar(0, Edu).factorial = 5;

const [from, to] = [new Migration(source.device), new Migration(target.device)];
using data = from.go('STOP_COPY')!; // it stands still from here
using into = to.go('RESUMING')!;
const piece = new Uint8Array(65536);
let bytes = 0;
for (let got = data.read(piece); got > 0; got = data.read(piece)) bytes += into.write(piece.subarray(0, got));
to.go('RUNNING'); // here it goes on

const there = target.bar(0, Edu);
while (there.status.computing) await new Promise((resolve) => setTimeout(resolve, 5));
console.log(`${bytes} bytes moved; the factorial of 5 is ${there.factorial} there, and ${from.state} is what the source does`);
