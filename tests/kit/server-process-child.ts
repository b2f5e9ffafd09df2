/** The process of `ServerProcess`: server-process-child.ts PATH MODEL SECONDS */
import { pathToFileURL } from 'node:url';
import { Extension } from '../../src/abi/vfio.ts';
import { Cleanup } from '../../src/base/cleanup.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { models } from '../../src/models/registry.ts';
import type { DeviceModel } from '../../src/pci/declaration.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { UnixListener } from '../../src/sys/unix-listener.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { openDescriptors } from './open-descriptors.ts';
import type { Answer, Question } from './server-process.ts';

const [path, name, seconds] = process.argv.slice(2) as [string, string, string];
setTimeout(() => process.exit(3), Number(seconds) * 1000);
process.on('disconnect', () => process.exit(0));

const bdf = '0000:00:04.0';

async function makeModel(): Promise<DeviceModel> {
  const known = models[name as keyof typeof models] as ((options?: object) => DeviceModel) | undefined;
  if (known !== undefined) return known({});
  return ((await import(pathToFileURL(name).href)) as { default: () => DeviceModel }).default();
}

interface Running extends Disposable {
  readonly server: VfioUserServer;
}

function run(model: DeviceModel): Running {
  using undo = new Cleanup();
  const machine = undo.use(new Machine({ devices: [{ at: '04.0', model, driver: 'vfio-pci' }] }, { allocate: MemfdMemory.allocate }));
  const server = undo.use(
    new VfioUserServer({
      name: bdf,
      open: () => {
        const container = machine.openContainer();
        const group = machine.openGroup(machine.function(bdf).group!.id);
        group.setContainer(container);
        container.setIommu(Extension.TYPE1v2_IOMMU);
        const device = group.openDevice(bdf);
        // The device holds its group, and the group its container.
        group.close();
        container.close();
        return device;
      },
    }),
  );
  const all = undo.move();
  return { server, [Symbol.dispose]: () => all[Symbol.dispose]() };
}

let running = run(await makeModel());
const listener = UnixListener.listen(path);
listener.onConnection((socket) => void running.server.serve(socket));

const answer = (number: number) =>
  process.send!({ number, descriptors: openDescriptors(), sessions: running.server.sessions.length } satisfies Answer);

process.on('message', async ({ number, ask }: Question) => {
  if (ask === 'fresh') {
    const old = running;
    running = run(await makeModel());
    old[Symbol.dispose]();
  }
  answer(number);
});
answer(0);
