/** A function of the demo's machine behind a socket, and a driver for it in another process. */
import { chownSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openForPeer } from '../../api/opened-device.ts';
import { PeerProcesses } from '../../api/peer-processes.ts';
import { Cleanup } from '../../base/cleanup.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import { VfioUserServer } from '../../vfio-user/server.ts';
import { temporaryFolder } from './temporary-folder.ts';
import { type Tasks, type WorkerOptions, WorkerProcess } from './worker-process.ts';

/** The driver's user where the demo runs as root: the unprivileged one. */
const NOBODY = 65534;

/**
 * A vfio-user socket that leads to the function. A client that connects opens the function through
 * group and container, as its own process.
 */
export function putBehindSocket(machine: Machine, fn: PciFunction): { readonly path: string } & Disposable {
  using undo = new Cleanup();
  const folder = undo.use(temporaryFolder('vfio-demo'));
  const processes = new PeerProcesses();
  const server = undo.use(
    new VfioUserServer({
      name: fn.name,
      events: machine.context.stream,
      device: fn.bdf,
      open: (peer, vfToken) => openForPeer(machine, fn.bdf, processes, peer, vfToken).device,
    }),
  );
  const path = join(folder.path, 'device.sock');
  const listener = undo.use(UnixListener.listen(path));
  listener.onConnection((socket) => void server.serve(socket), { keepAlive: false });
  const steps = undo.move();
  return { path, [Symbol.dispose]: () => steps[Symbol.dispose]() };
}

/**
 * The driver in `WORKER-worker.ts` of this folder. Where the demo runs as root, the driver runs
 * as an unprivileged user if that user may read this checkout.
 *
 * @param options.others files that the driver also gets
 */
export async function startDriver<T extends Tasks<T>>(
  worker: string,
  { path }: { readonly path: string },
  { others = [], ...options }: Omit<WorkerOptions, 'uid'> & { readonly others?: readonly string[] } = {},
): Promise<WorkerProcess<T>> {
  const address = `unix:${path}`;
  if (process.getuid!() !== 0) return await WorkerProcess.start<T>(worker, address, options);
  try {
    for (const each of [dirname(path), path, ...others]) chownSync(each, NOBODY, NOBODY);
    return await WorkerProcess.start<T>(worker, address, { ...options, uid: NOBODY });
  } catch {
    return await WorkerProcess.start<T>(worker, address, options);
  }
}
