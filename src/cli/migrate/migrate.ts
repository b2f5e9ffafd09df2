/** `vfio migrate`: moves a served device, receives one, asks a server about a move. */
import { parseAddress } from '../../api/address.ts';
import { askDoor } from '../../api/migrate/door.ts';
import { parseEndpoint } from '../../api/migrate/endpoint.ts';
import { type Pipe, readKey, receiveTcp, stdioPipe } from '../../api/migrate/endpoints.ts';
import type { Figures, Progress as MoveProgress } from '../../api/migrate/figures.ts';
import { moveDevice, receiveDevice } from '../../api/migrate/move.ts';
import type { RelayOptions } from '../../api/migrate/relay.ts';
import { VfioError } from '../../base/errno.ts';
import type { CommandContext } from '../command.ts';
import type { EventsOptions } from '../event-options.ts';
import { watchedStream } from '../events/event-files.ts';
import { Exit } from '../exit-codes.ts';
import { interruptible } from '../interruptible.ts';
import { progressLine } from '../progress.ts';
import { formatBytes, formatRate } from '../quantities.ts';
import { json, type Terminal } from '../terminal.ts';
import { inStages } from './stages.ts';

interface Options extends EventsOptions {
  readonly downtimeMs?: number;
  readonly keyFile?: string;
  readonly receive?: string | true;
  readonly stdio?: boolean;
  readonly status?: boolean;
  readonly resume?: boolean;
  readonly letGo?: boolean;
  readonly json?: boolean;
}

export async function migrate(
  { terminal }: CommandContext,
  options: Options,
  source: string,
  destination: string | undefined,
): Promise<number> {
  const path = socketOf(source);
  if (options.receive !== undefined) return await receive(path, destination, options, terminal);
  if (options.status !== true && options.resume !== true && options.letGo !== true) return await move(path, destination, options, terminal);
  if (destination !== undefined) throw new VfioError('EINVAL', `one server is asked at a time, not ${destination} too`);
  await ask(path, options, terminal);
  return Exit.OK;
}

async function move(path: string, destination: string | undefined, options: Options, terminal: Terminal): Promise<number> {
  if (options.stdio === true) throw new VfioError('EINVAL', '--stdio is for --receive');
  if (destination === undefined) {
    throw new VfioError('EINVAL', 'where to is missing', { fix: 'Give unix:PATH, tcp:HOST:PORT or exec:COMMAND after the source.' });
  }
  const endpoint = parseEndpoint(destination);
  const { keyFile, downtimeMs } = options;
  if (keyFile !== undefined && endpoint.kind !== 'tcp')
    throw new VfioError('EINVAL', `${destination} takes no key`, { fix: 'Leave --key-file out.' });
  const key = keyFile === undefined ? {} : { key: readKey(keyFile) };
  return await interruptible(async (signal) => {
    using watched = watchedStream(options, terminal, options.json === true ? { stdoutHas: 'a JSON document' } : {});
    using line = new Line(process.stderr);
    const limits = { ...key, ...(downtimeMs === undefined ? {} : { downtimeMs }), signal };
    const figures = await inStages(watched?.stream ?? null, `unix:${path}`, 'PRE_COPY', line.hooks, (hooks) =>
      moveDevice(path, endpoint, { ...limits, ...hooks }),
    );
    line[Symbol.dispose]();
    tell(figures, `unix:${path} is at ${destination} now`, options, terminal);
    return Exit.OK;
  });
}

async function receive(path: string, extra: string | undefined, options: Options, terminal: Terminal): Promise<number> {
  const { receive: where, stdio, keyFile } = options;
  // Standard output carries the device's data: take it before any other code that prints gets
  // another stream in its place.
  const carrier = stdio === true ? stdioPipe() : null;
  using _output = await terminal.serve();
  if (extra !== undefined) throw new VfioError('EINVAL', `--receive takes one server, not ${extra} too`);
  if ((where === true) !== (carrier !== null)) {
    throw new VfioError('EINVAL', 'it is not said from where', { fix: 'Give --receive tcp:HOST:PORT, or --receive --stdio.' });
  }
  using watched = watchedStream(options, terminal, carrier !== null || options.json === true ? { stdoutHas: 'other data' } : {});
  const received = (from: Pipe, hooks: Line['hooks'], signal?: AbortSignal) =>
    inStages(watched?.stream ?? null, `unix:${path}`, 'RESUMING', hooks, (all) =>
      receiveDevice(path, from, { ...all, ...(signal === undefined ? {} : { signal }) }),
    );
  if (carrier !== null) {
    await received(carrier, { onProgress: () => {}, onStopped: () => {} });
    terminal.err(`a device has arrived at unix:${path}`);
    return Exit.OK;
  }
  const endpoint = parseEndpoint(where as string);
  if (endpoint.kind !== 'tcp') throw new VfioError('EINVAL', `${where} cannot be waited at`, { fix: 'Give tcp:HOST:PORT.' });
  return await interruptible(async (signal) => {
    const key = keyFile === undefined ? null : readKey(keyFile);
    using receiver = await receiveTcp(endpoint.host, endpoint.port, key, () => terminal.err('a connection without the key was refused'));
    terminal.err(`waiting at tcp:${endpoint.host}:${receiver.port}`);
    const told = new Promise<null>((resolve) => signal.addEventListener('abort', () => resolve(null)));
    const from: Pipe | null = await Promise.race([receiver.connected, told]);
    if (from === null) return Exit.INTERRUPTED;
    using line = new Line(process.stderr);
    const figures = await received(from, line.hooks, signal);
    line[Symbol.dispose]();
    tell(figures, `a device from ${from.name} is at unix:${path} now`, options, terminal);
    return Exit.OK;
  });
}

async function ask(path: string, options: Options, terminal: Terminal): Promise<void> {
  const status = await askDoor(path, options.resume === true ? 'resume' : options.letGo === true ? 'let-go' : 'status');
  if (options.json === true) {
    json(terminal, 'vfio-migrate-status/1', status);
    return;
  }
  terminal.out(`${status.name}: ${status.state}`);
  if (status.inDoubt !== undefined) terminal.out(`move in doubt: ${status.inDoubt}`);
  if (status.movedIn !== null) terminal.out(`last that came: ${status.movedIn}`);
  if (status.movedOut !== null) terminal.out(`last that went: ${status.movedOut}`);
}

function tell(figures: Figures | null, what: string, options: Options, terminal: Terminal): void {
  if (options.json === true) {
    json(terminal, 'vfio-migrate/1', figures ?? {});
    return;
  }
  terminal.out(what);
  if (figures === null) return;
  const { id, rounds, memoryBytes, deviceBytes, downtimeMs, totalMs } = figures;
  const seconds = totalMs / 1000;
  terminal.out(`  ${'downtime'.padEnd(10)}${downtimeMs.toFixed(1)} ms`);
  terminal.out(`  ${'rounds'.padEnd(10)}${rounds} while it ran`);
  terminal.out(`  ${'memory'.padEnd(10)}${formatBytes(memoryBytes)}`);
  terminal.out(`  ${'device'.padEnd(10)}${formatBytes(deviceBytes)}`);
  terminal.out(`  ${'in all'.padEnd(10)}${seconds.toFixed(2)} s, ${formatRate((memoryBytes + deviceBytes) / Math.max(seconds, 0.001))}`);
  terminal.out(`  ${'move'.padEnd(10)}${id}`);
}

/** How far it is, written over, on a terminal only. */
class Line implements Disposable {
  readonly #output: NodeJS.WriteStream;
  readonly #begun = performance.now();
  #shown = false;

  constructor(output: NodeJS.WriteStream) {
    this.#output = output;
  }

  get hooks(): Required<Pick<RelayOptions, 'onProgress' | 'onStopped'>> {
    return {
      onProgress: (progress: MoveProgress) => this.#show(progress),
      onStopped: () => this.#write('the device stands still'),
    };
  }

  #show({ round, sent, left }: MoveProgress): void {
    const words = `round ${round} `;
    const columns = (this.#output.columns ?? 80) - words.length;
    this.#write(words + progressLine(sent, sent + left, performance.now() - this.#begun, columns));
  }

  #write(text: string): void {
    if (this.#output.isTTY !== true) return;
    this.#output.write(`\r${text}\u001b[K`);
    this.#shown = true;
  }

  /** The line goes away. */
  [Symbol.dispose](): void {
    if (this.#shown) this.#output.write('\r\u001b[K');
    this.#shown = false;
  }
}

function socketOf(address: string): string {
  const parsed = parseAddress(address);
  if (parsed.kind === 'socket') return parsed.path;
  throw new VfioError('EINVAL', `${address} is not a served device`, { fix: "Give it as 'unix:PATH', the socket of vfio serve." });
}
