/**
 * Administers a machine that runs in several threads. A command goes to the threads that have the
 * function that it names; one about the machine goes to all of them.
 */
import { VfioError } from '../../base/errno.ts';
import { compareBdf, parseBdf } from '../../pci/bdf.ts';
import { type AdminAnswer, type AdminArguments, type AdminProgress, adminCommand } from '../admin/commands.ts';
import type { AdminDesk, AdminRequest } from '../admin/desk.ts';
import type { FunctionDocument, MachineDocument } from '../machine-document.ts';
import type { DeviceThread } from './device-thread.ts';
import type { ServerThreads } from './server-threads.ts';

export class ThreadsDesk implements AdminDesk {
  readonly #threads: ServerThreads;
  readonly #name: string;
  /** The last answer of each thread. */
  readonly #last = new WeakMap<DeviceThread, MachineDocument>();
  /** Starts a thread that has no function yet, but every bridge. */
  readonly #startEmpty: () => Promise<DeviceThread>;
  /** The last choice of a thread for a new device. */
  #placing: Promise<unknown> = Promise.resolve();
  /** By slot: the thread that was chosen for a new device there, which may be under way. */
  readonly #promised = new Map<string, DeviceThread>();

  /** @param name the machine's */
  constructor(threads: ServerThreads, name: string, startEmpty: () => Promise<DeviceThread>) {
    this.#threads = threads;
    this.#name = name;
    this.#startEmpty = startEmpty;
  }

  /** Threads that are down are left out, with their functions. */
  async status(): Promise<MachineDocument> {
    const parts = await Promise.all(this.#all().map((thread) => this.#statusOf(thread)));
    return merged(
      this.#name,
      parts.filter((part) => part !== null),
    );
  }

  /** A thread that does not answer is as it last was; one that is down has nothing. */
  async #statusOf(thread: DeviceThread): Promise<MachineDocument | null> {
    try {
      const document = await thread.ask<MachineDocument>('status', null);
      this.#last.set(thread, document);
      return document;
    } catch (error) {
      const silent = error instanceof VfioError && error.code === 'ETIMEDOUT';
      return silent ? (this.#last.get(thread) ?? null) : null;
    }
  }

  async carryOut(request: AdminRequest, progress: AdminProgress): Promise<AdminAnswer> {
    const { command, given } = request;
    if (command === 'show') return { lines: [], value: await this.status() };
    const row = adminCommand(command);
    const named = row.positional[0] === 'bdf' ? (given.bdf ?? request.own) : null;
    const threads =
      command === 'plug' ? [await this.#placeFor(given)] : typeof named === 'string' ? this.#having(parseBdf(named)) : this.#all();
    return await this.#askAll(threads, request, progress);
  }

  /** All of them answer, or the first error is the answer. The first answer stands for all. */
  async #askAll(threads: readonly DeviceThread[], request: AdminRequest, progress: AdminProgress): Promise<AdminAnswer> {
    const answers = await Promise.allSettled(
      threads.map((thread) => thread.ask<AdminAnswer>('carryOut', request, (text) => void progress(text))),
    );
    const failed = answers.find((answer) => answer.status === 'rejected');
    if (failed !== undefined) {
      // A machine sleeps as a whole, or not at all.
      if (request.command === 'suspend') await this.#askAll(threads, { ...request, command: 'resume' }, progress);
      throw failed.reason;
    }
    return (answers[0] as PromiseFulfilledResult<AdminAnswer>).value;
  }

  #all(): readonly DeviceThread[] {
    return [...this.#threads.threads.values()];
  }

  /** @throws VfioError ENODEV */
  #having(bdf: string): readonly DeviceThread[] {
    const threads = this.#all().filter((thread) => this.#threads.functionsOf(thread).has(bdf));
    if (threads.length > 0) return threads;
    const all = [...new Set(this.#all().flatMap((thread) => [...this.#threads.functionsOf(thread)]))].sort(compareBdf);
    const more = all.length > 8 ? ', …' : '';
    throw new VfioError('ENODEV', `${bdf} is not in this machine`, { fix: `It has ${all.slice(0, 8).join(', ')}${more}.` });
  }

  /**
   * The thread for a new device: that of its neighbours, with which it may share a bus, a slot or a
   * group; a new one for a device that has none; at last the one with the fewest functions.
   */
  async #placeFor(given: AdminArguments): Promise<DeviceThread> {
    const { behind, at } = given;
    const port = typeof behind === 'string' ? parseBdf(behind) : null;
    if (port !== null) this.#having(port);
    // The second of two requests waits for the place of the first one, and not for its device.
    const place = this.#placing.then(() => this.#place(port, typeof at === 'string' ? at : '00.0'));
    this.#placing = place.catch(() => {});
    return await place;
  }

  async #place(port: string | null, at: string): Promise<DeviceThread> {
    const { functions } = await this.status();
    const slot = slotOf(port ?? placeOf(at, functions), functions);
    const threads = this.#all();
    const near = functions.find((fn) => !bridges.has(fn.kind) && slotOf(fn.bdf, functions) === slot);
    const owner = near === undefined ? this.#promised.get(slot) : threads.find((one) => this.#threads.functionsOf(one).has(near.bdf));
    if (owner !== undefined && threads.includes(owner)) return owner;
    const fewest = () =>
      threads.reduce((least, one) => (this.#threads.functionsOf(one).size < this.#threads.functionsOf(least).size ? one : least));
    const chosen = this.#threads.hasRoom ? await this.#startEmpty() : fewest();
    this.#promised.set(slot, chosen);
    return chosen;
  }
}

const bridges: ReadonlySet<string> = new Set(['root-port', 'upstream-port', 'downstream-port', 'pcie-to-pci-bridge', 'pci-bridge']);

/** An address on the bus of a new device: its own, or that of the bridge above the bus. */
function placeOf(at: string, functions: readonly FunctionDocument[]): string {
  const bdf = at.includes(':') ? parseBdf(at) : `0000:00:${at}`;
  const bus = bdf.slice(0, bdf.lastIndexOf(':') + 1);
  return functions.find((fn) => fn.bdf.startsWith(bus))?.parent ?? bdf;
}

/** The slot of the root bus that has the function `bdf`, or the bridges above it. */
function slotOf(bdf: string, functions: readonly FunctionDocument[]): string {
  let top = bdf;
  for (let parent: string | null = bdf; parent !== null; ) {
    top = parent;
    const above: string = parent;
    parent = functions.find((fn) => fn.bdf === above)?.parent ?? null;
  }
  return top.replace(/\.[0-7]$/, '');
}

/** Bridges are in every part; that of the part that has more of a group counts. */
export function merged(name: string, parts: readonly MachineDocument[]): MachineDocument {
  const functions = new Map<string, FunctionDocument>();
  const groups = new Map<number, MachineDocument['groups'][number]>();
  for (const part of parts) {
    for (const group of part.groups) {
      const known = groups.get(group.id);
      if (known === undefined || group.functions.length > known.functions.length) groups.set(group.id, group);
    }
  }
  for (const part of parts) {
    const whole = new Set(part.groups.filter((group) => groups.get(group.id) === group).map(({ id }) => id));
    for (const fn of part.functions) {
      if (!functions.has(fn.bdf) || (fn.group !== null && whole.has(fn.group))) functions.set(fn.bdf, fn);
    }
  }
  return {
    name,
    functions: [...functions.values()].sort((a, b) => compareBdf(a.bdf, b.bdf)),
    groups: [...groups.values()].sort((a, b) => a.id - b.id),
  };
}
