/** A function of the demo's machine behind a socket, and a driver for it in another process. */
import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cleanup } from '../../base/cleanup.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import { VfioUserServer } from '../../vfio-user/server.ts';
import { openForPeer } from '../opened-device.ts';
import { PeerProcesses } from '../peer-processes.ts';
import { type Tasks, WorkerProcess } from './worker-process.ts';

/** Who the driver is when we are root: nobody. */
const NOBODY = 65534;

/** A vfio-user socket that leads to the function; whoever connects opens it through group and container, as the process that it is. */
export function putBehindSocket(machine: Machine, fn: PciFunction): { readonly path: string } & Disposable {
  using undo = new Cleanup();
  const folder = mkdtempSync(join(tmpdir(), 'vfio-demo-'));
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  const processes = new PeerProcesses();
  const server = undo.use(
    new VfioUserServer({
      name: fn.name,
      open: (peer) => openForPeer(machine, fn.bdf, processes, peer).device,
    }),
  );
  const path = join(folder, 'device.sock');
  const listener = undo.use(UnixListener.listen(path));
  listener.onConnection((socket) => void server.serve(socket), { keepAlive: false });
  const steps = undo.move();
  return { path, [Symbol.dispose]: () => steps[Symbol.dispose]() };
}

/** As nobody when we are root; as ourselves when nobody may not read this checkout. */
export async function startDriver<T extends Tasks<T>>(file: URL, { path }: { readonly path: string }): Promise<WorkerProcess<T>> {
  const address = `unix:${path}`;
  if (process.getuid!() !== 0) return await WorkerProcess.start<T>(file, address);
  try {
    for (const each of [join(path, '..'), path]) chownSync(each, NOBODY, NOBODY);
    return await WorkerProcess.start<T>(file, address, NOBODY);
  } catch {
    return await WorkerProcess.start<T>(file, address);
  }
}
