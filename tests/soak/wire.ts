/**
 * Served devices against streams that no client would send, clients that come and go, and clients
 * that are killed. The server lives on, serves the next client, and holds no more resources than
 * before. Without a time: one round of a million frames. With one: rounds until it is up.
 */
import { closeSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import { IrqIndex } from '../../src/abi/vfio.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { OwnedFd } from '../../src/sys/owned-fd.ts';
import { VfioUserDevice } from '../../src/vfio-user/client.ts';
import { closeAll } from '../../src/vfio-user/frames.ts';
import { openDescriptorsAndFiles } from '../kit/open-descriptors.ts';
import { type Files, FuzzedStream, type StreamKind, streamKinds } from './fuzzed-stream.ts';
import { Random } from './random.ts';
import type { SoakOptions } from './run.ts';
import { Victims } from './victims.ts';
import { type Figures, WireServer } from './wire-server.ts';

export interface Round {
  readonly frames: number;
  /** Attached and detached. */
  readonly cycles: number;
  readonly kills: number;
}

const ROUND: Round = { frames: 1_000_000, cycles: 1000, kills: 1000 };
/** Work is done in parts, so that all kinds of clients take turns. */
const PARTS = 20;
/**
 * By then code is compiled, caches are filled and the allocator has its arenas: from here on
 * resources must not grow.
 */
const WARM_UP: Round = { frames: 50_000, cycles: 60, kills: 60 };
const MAX_FRAMES_OF_A_STREAM = 200;
const ROUND_MINUTES = 20;

/** Growth in bytes that is no leak. Mappings of files may not grow. */
const MAY_GROW = { heap: 4 * 2 ** 20, rss: 32 * 2 ** 20, mappings: 0 } as const;
/**
 * The same of a server that is watched: the stream holds 65,536 pieces of messages, and malloc does
 * not give back the pages between them. RSS stays below it however long the run is.
 */
const MAY_GROW_WATCHED = { ...MAY_GROW, rss: 64 * 2 ** 20 } as const;

interface Done {
  frames: number;
  streams: number;
  cycles: number;
  kills: number;
  /** Of the killed clients: those that had everything set up. */
  ready: number;
}

export async function wire(
  { minutes, seed, watched = false, threads = false }: SoakOptions,
  round: Round = ROUND,
  warmUp: Round = WARM_UP,
): Promise<string> {
  const most = minutes ?? ROUND_MINUTES;
  await using server = await WireServer.start((most + ROUND_MINUTES) * 60, { watched, threads });
  const clients = new Clients(server, seed);
  try {
    const cold = await server.figures();
    await clients.play(warmUp, performance.now() + (ROUND_MINUTES / 2) * 60_000);
    const before = { server: await server.figures(), descriptors: openDescriptorsAndFiles() };
    clients.done = nothing();
    const started = performance.now();
    const end = started + most * 60_000;
    do await clients.play(round, end);
    while (minutes !== undefined && performance.now() < end);
    const after = { server: await server.figures(), descriptors: openDescriptorsAndFiles() };
    const { frames, streams, cycles, kills, ready } = clients.done;
    const lines = [
      `${frames} frames in ${streams} streams${served(before.server, after.server)}, ` +
        `${cycles} attach/detach cycles, ${kills} clients killed (${ready} of them all set up), in ${Math.round((performance.now() - started) / 1000)} s`,
      ...rows(cold, before.server, after.server),
      `  descriptors of the clients' process: ${before.descriptors} before, ${after.descriptors} after`,
    ];
    const wrong = differences(cold, before.server, after.server, watched ? MAY_GROW_WATCHED : MAY_GROW);
    if (after.descriptors !== before.descriptors) wrong.push('the clients leak descriptors');
    if (minutes === undefined && (frames < round.frames || cycles < round.cycles || kills < round.kills)) wrong.push('it took too long');
    if (wrong.length > 0) throw new Error(`${wrong.join('; ')}\n${lines.join('\n')}`);
    return lines.join('\n');
  } finally {
    clients[Symbol.dispose]();
  }
}

/** Threads do not count their messages. */
function served(before: Figures, after: Figures): string {
  const messages = after.messages - before.messages;
  return messages === 0 ? '' : ` (of all messages the server made ${messages} messages)`;
}

const nothing = (): Done => ({ frames: 0, streams: 0, cycles: 0, kills: 0, ready: 0 });
const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function rows(cold: Figures, before: Figures, after: Figures): string[] {
  const row = (what: string, of: (figures: Figures) => number | string): string =>
    `  ${what} of the server: ${of(cold)} before any client, ${of(before)} before (warm), ${of(after)} after`;
  return [
    row('descriptors', (figures) => figures.descriptors),
    row('RSS', (figures) => mebibytes(figures.rss)),
    row('heap and buffers', (figures) => mebibytes(figures.heap)),
    row('mappings of files', (figures) => figures.mappings),
    row('mappings of shared memory', (figures) => figures.sharedMappings),
  ];
}

type Growth = Readonly<Record<keyof typeof MAY_GROW, number>>;

function differences(cold: Figures, before: Figures, after: Figures, mayGrow: Growth): string[] {
  const wrong = after.errors.map((line) => `the server logged: ${line}`);
  if (after.descriptors !== before.descriptors || after.descriptors !== cold.descriptors) wrong.push('the server leaks descriptors');
  if (after.sharedMappings !== cold.sharedMappings) wrong.push('the server leaks mappings of memory');
  for (const what of ['heap', 'rss', 'mappings'] as const)
    if (after[what] - before[what] > mayGrow[what]) wrong.push(`the server's ${what} grew`);
  return wrong;
}

class Clients implements Disposable {
  done = nothing();
  readonly #server: WireServer;
  readonly #seed: number;
  readonly #random: Random;
  readonly #victims: Victims;
  readonly #memory = MemfdMemory.allocate(0x20000) as MemfdMemory;
  readonly #event = EventFd.create();
  readonly #files: Files;
  #streams = 0;

  constructor(server: WireServer, seed: number) {
    this.#server = server;
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#victims = new Victims(server.directory);
    const small = MemfdMemory.allocate(0x1000) as MemfdMemory;
    const others = [small.duplicateFd(), this.#event.duplicateFd(), opened('/dev/null'), opened('/proc/self/status'), opened(tmpdir())];
    small[Symbol.dispose]();
    this.#files = { memory: this.#memory.duplicateFd(), eventfd: this.#event.duplicateFd(), others };
  }

  /** Until the round is done, or the time is up. @throws Error with the fault */
  async play(round: Round, end: number): Promise<void> {
    const started = { ...this.done };
    for (let part = 1; part <= PARTS && performance.now() < end; part++) {
      const until = (whole: number): number => Math.ceil((whole * part) / PARTS);
      while (this.done.frames - started.frames < until(round.frames) && performance.now() < end) {
        this.#stream(round.frames - (this.done.frames - started.frames));
        if (this.done.streams % 64 === 0) await turn();
      }
      while (this.done.cycles - started.cycles < until(round.cycles)) await this.#cycle();
      await this.#kill(until(round.kills) - (this.done.kills - started.kills));
      // The crash is in this part.
      await this.#server.figures();
    }
  }

  #stream(most: number): void {
    const number = this.#streams++;
    const random = new Random(Math.imul(this.#seed + number, 0x9e37_79b1));
    const kind: StreamKind = streamKinds[number % streamKinds.length]!;
    const path = random.pick(this.#server.paths);
    using stream = new FuzzedStream(path, random, this.#files);
    try {
      stream.run(kind, Math.min(most, 1 + random.below(MAX_FRAMES_OF_A_STREAM)));
    } catch (cause) {
      throw new Error(`stream ${number} (${kind}) to ${path}, after ${stream.sent} of its frames`, { cause });
    }
    this.done.streams++;
    this.done.frames += stream.sent;
  }

  /** The steps of a driver: memory, an interrupt, a mapped BAR. The device must answer. */
  async #cycle(): Promise<void> {
    const [edu, card] = this.#server.paths;
    const path = this.#random.once(2) ? edu! : card!;
    const device = VfioUserDevice.connect(path, { timeoutMs: 120_000, twinSocket: this.#random.once(2) });
    try {
      using memory = device.dma.allocate(0x10000);
      using event = EventFd.create();
      device.dma.map({ iova: 0n, memory });
      device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [event] });
      device.region(7).write16(4, 6);
      using mapping = device.region(path === card ? 1 : 0).map();
      mapping.read32(0);
      device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'none' });
      if (!event.waitSync(120_000)) throw new Error('no interrupt came');
      if (this.#random.once(2)) device.dma.unmapAll();
    } finally {
      device.close();
    }
    this.done.cycles++;
    await turn();
  }

  async #kill(count: number): Promise<void> {
    if (count <= 0) return;
    const path = this.#server.paths[this.done.kills % 2]!;
    this.done.ready += await this.#victims.kill(path, count, this.#random.next());
    this.done.kills += count;
  }

  [Symbol.dispose](): void {
    const { memory, eventfd, others } = this.#files;
    closeAll([memory, eventfd, ...others]);
    this.#event[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}

function opened(path: string): OwnedFd {
  const number = openSync(path, 'r');
  try {
    return OwnedFd.duplicate(number);
  } finally {
    closeSync(number);
  }
}
