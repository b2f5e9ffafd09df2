/** Moving a served device: what `vfio migrate` does, for programs. */
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
   * The device may stand still for so long, in milliseconds, or not move; Infinity for any time.
   * Default 300.
   */
  readonly downtimeMs?: number;
  /** For a destination behind TCP. */
  readonly key?: Uint8Array;
}

/**
 * Move the device of the server at `source`, with the memory that it may touch, to another server.
 * Until the moment in which it is handed over, whatever fails leaves it where it was.
 *
 * @param source path of its socket
 * @throws VfioError (rejects) ENODEV when nobody uses it; EBUSY, EINVAL, EOPNOTSUPP when either end
 *   cannot, or both are one; ETIMEDOUT when it changes too fast; ECONNRESET when an end is lost;
 *   EIO when that was in the moment of the hand-over, and it is not known which end has it
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
 * Begin a move, and return its ends, between which the caller carries it.
 *
 * @internal
 * @throws VfioError (rejects) when an end is not there
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
 * A source that gave its device away without hearing of it is told what became of it, where both
 * ends can be asked. What cannot be found out stays as it is, for a person.
 *
 * @returns whether it is at the destination
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

/** What a server says once nothing moves there. */
async function calm(path: string): Promise<DoorStatus> {
  for (let tries = 0; ; tries++) {
    const status = await askDoor(path, 'status');
    if (!status.state.startsWith('moving') || tries >= SETTLE_TRIES) return status;
    await new Promise<void>((done) => setTimeout(done, 20));
  }
}
