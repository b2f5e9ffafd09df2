/** Moving a served device: the work of `vfio migrate`, for programs. */
import { resolve } from 'node:path';
import { VfioError } from '../../base/errno.ts';
import { askDoor, type DoorStatus } from './door.ts';
import type { Endpoint } from './endpoint.ts';
import { connectEndpoint, type Pipe } from './endpoints.ts';
import type { Figures } from './figures.ts';
import { encodeJson, HEAD_BYTES, Kind, sealFrame } from './frames.ts';
import { type RelayOptions, relay } from './relay.ts';

/** Limits of a move, and the listeners of its progress. */
export interface MoveOptions extends RelayOptions {
  /**
   * The longest time in milliseconds that the device may stand still; Infinity: any time. Default:
   * 300.
   */
  readonly downtimeMs?: number;
  /** The key, for a destination behind TCP. */
  readonly key?: Uint8Array;
}

/**
 * Move the device of the server at `source`, with the memory that it may touch, to another server.
 * A failure before the hand-over leaves the device where it was.
 *
 * @param source path of the server's socket
 * @throws VfioError (rejects) ENODEV when the device has no user; EBUSY, EINVAL, EOPNOTSUPP when
 *   either end cannot move it, or both ends are one; ETIMEDOUT when the device changes too fast;
 *   ECONNRESET when an end is lost; EIO when an end is lost during the hand-over, so that the
 *   device may be at either end
 */
export async function moveDevice(source: string, destination: Endpoint, options: MoveOptions = {}): Promise<Figures | null> {
  const { from, to } = await startMove(source, destination, options);
  try {
    return await relay(from, to, options);
  } catch (error) {
    if (destination.kind === 'server' && (await arrivedAfterAll(source, destination.path))) return null;
    throw error;
  }
}

/**
 * Begin a move.
 *
 * @internal
 * @returns the ends of the move, between which the caller carries the bytes
 * @throws VfioError (rejects) when an end does not exist
 */
export async function startMove(
  source: string,
  destination: Endpoint,
  { downtimeMs, key }: Pick<MoveOptions, 'downtimeMs' | 'key'> = {},
): Promise<{ readonly from: Pipe; readonly to: Pipe }> {
  if (destination.kind === 'server' && resolve(destination.path) === resolve(source)) {
    throw new VfioError('EINVAL', `unix:${source} is where it is already`, { fix: 'Give another server to move it to.' });
  }
  const to = await connectEndpoint(destination, key ?? null);
  let from: Pipe;
  try {
    from = await connectEndpoint({ kind: 'server', path: source }, null);
  } catch (error) {
    to.close();
    throw error;
  }
  // JSON has no infinity.
  const downtime = downtimeMs === undefined ? {} : { downtimeMs: downtimeMs === Number.POSITIVE_INFINITY ? null : downtimeMs };
  if (destination.kind === 'server') hello(to, { command: 'in' });
  hello(from, { command: 'out', to: to.name, ...downtime });
  return { from, to };
}

/**
 * Receive a device from `from` into the server at `path`.
 *
 * @internal
 * @throws VfioError (rejects) as `moveDevice`
 */
export async function receiveDevice(path: string, from: Pipe, options: RelayOptions = {}): Promise<Figures | null> {
  let to: Pipe;
  try {
    to = await connectEndpoint({ kind: 'server', path }, null);
  } catch (error) {
    from.close();
    throw error;
  }
  hello(to, { command: 'in' });
  return await relay(from, to, options);
}

function hello(pipe: Pipe, body: object): void {
  const payload = encodeJson(body);
  const frame = new Uint8Array(HEAD_BYTES + payload.length);
  frame.set(payload, HEAD_BYTES);
  pipe.output.write(frame.subarray(0, sealFrame(frame, Kind.HELLO, payload.length)));
}

const SETTLE_TRIES = 100;

/**
 * Resolve a move in doubt: report to the source whether its device has arrived, where both ends can
 * be asked. A doubt that cannot be resolved stays for a person.
 *
 * @returns whether the device is at the destination
 */
export async function arrivedAfterAll(source: string, destination: string): Promise<boolean> {
  try {
    const there = await calm(destination);
    const here = await calm(source);
    if (here.inDoubt === undefined) return false;
    const arrived = there.movedIn === here.inDoubt;
    await askDoor(source, arrived ? 'let-go' : 'resume');
    return arrived;
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return false;
  }
}

/** The states of a server in which no move is under way. */
async function calm(path: string): Promise<DoorStatus> {
  for (let tries = 0; ; tries++) {
    const status = await askDoor(path, 'status');
    if (!status.state.startsWith('moving') || tries >= SETTLE_TRIES) return status;
    await new Promise<void>((done) => setTimeout(done, 20));
  }
}
