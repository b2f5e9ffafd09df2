// hello-machine.ts
// A machine, and a program that opens /dev/vfio on it as on Linux. Run it: node hello-machine.ts
import { join } from 'node:path';
import { KernelDoor, loadMachine, Process } from 'vfio-ts/machine';

using machine = loadMachine(join(import.meta.dirname, 'machines/desktop.yaml'));
console.log(machine.explain('01:00.0').summary);

const group = machine.function('01:00.0').group!.id;
const { steps } = machine.bindGroup(group); // graphics and sound: the IOMMU sees one device
for (const step of steps) console.log(step.command);

// System calls: they return what Linux returns, or -errno.
const program = new KernelDoor(machine).process(Process.root());
const fd = program.open(`/dev/vfio/${group}`);
console.log('open:', fd, 'again:', program.open(`/dev/vfio/${group}`), 'GROUP_SET_CONTAINER(-1):', program.ioctl(fd, 0x3b68, -1));
