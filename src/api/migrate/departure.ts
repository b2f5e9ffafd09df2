/**
 * A device leaves: rounds of copying while it runs, a short stop in which the rest goes, and then
 * the device belongs to the destination. A failure before that restores everything, and the client
 * has noticed a pause at most.
 */
import { randomBytes } from 'node:crypto';
import type { Device, MigrationStream } from '../../abi/device.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { Migration } from '../../drivers/kit/migration.ts';
import type { IommuDomain } from '../../hardware/iommu-domain.ts';
import type { Taken } from './extent.ts';
import { type Figures, type Progress, progressBody } from './figures.ts';
import { Kind } from './frames.ts';
import { type Link, Refused } from './link.ts';
import { MemoryImage, rangesToLog } from './memory-image.ts';
import { encodeExtents, encodeMappings, encodePagesHead, FORMAT, PAGE, PAGES_MAX, PagesHead, VERSION } from './wire.ts';

/** The device to move, and what the server can do about its users. */
export interface Subject {
  readonly name: string;
  readonly device: Device;
  readonly domain: IommuDomain;
  /** False when the device's client has left and taken the device along. */
  isThere(): boolean;
  /** Make the users of the device wait. */
  pause(): Disposable;
  /** The device is at the destination: disconnect its users and close it here. */
  gone(reason: string): void;
}

export interface DepartureOptions {
  /** The longest time that the device may stand still; Infinity: any time. */
  readonly downtimeMs: number;
  /** The destination's name in messages. */
  readonly to: string;
}

/**
 * The device was handed over, and the source does not know whether it arrived. A person has to
 * decide.
 */
export class InDoubt extends VfioError {
  readonly id: string;
  readonly resume: () => void;
  readonly letGo: () => void;

  constructor(id: string, cause: unknown, resume: () => void, letGo: () => void) {
    const text = `the connection was lost in the moment in which the device was handed over (move ${id})`;
    super('EIO', text, {
      cause,
      fix: 'Ask the destination with "vfio migrate --status ADDRESS": where the destination has this move, run --let-go on the source; else --resume.',
    });
    this.id = id;
    this.resume = resume;
    this.letGo = letGo;
  }
}

const READY_MS = 30_000;
const LOADED_MS = 60_000;
const GO_MS = 30_000;
/** The longest stop, for any limit: clients give up a request after ten seconds. */
const STOP_LEAST_MS = 5000;
const STOP_MOST_MS = 60_000;
/** The rounds after which a move fails when each leaves as much as the one before. */
const STALLED_MAX = 3;
const ROUNDS_MAX = 50;
/** The time that a hand-over takes besides copying: state and round trips. */
const FIXED_MS = 10;
/**
 * Bytes a millisecond, a fast network's, until a round of at least RATE_BYTES has measured the
 * rate.
 */
const RATE = 100_000;
const RATE_BYTES = 256 * 1024;
const PROGRESS_MS = 100;
/** The time after which copying pauses so that the client is served. */
const TURN_MS = 2;
const DEVICE_BYTES = 256 * 1024;

export async function depart(subject: Subject, link: Link, options: DepartureOptions): Promise<Figures> {
  return await new Departure(subject, link, options).run();
}

class Departure {
  readonly #subject: Subject;
  readonly #link: Link;
  readonly #options: DepartureOptions;
  readonly #migration: Migration;
  readonly #image: MemoryImage;
  readonly #id = randomBytes(8).toString('hex');
  readonly #begun = performance.now();
  readonly #head = new Uint8Array(PagesHead.structSize);
  readonly #pages = new Uint8Array(PAGES_MAX * PAGE);
  readonly #chunk = new Uint8Array(DEVICE_BYTES);
  #stream: MigrationStream | null = null;
  #logged = false;
  #paused: Disposable | null = null;
  #turnMs = performance.now();
  #toldMs = 0;
  #rounds = 0;
  #memoryBytes = 0;
  #deviceBytes = 0;
  #left = 0;

  constructor(subject: Subject, link: Link, options: DepartureOptions) {
    this.#subject = subject;
    this.#link = link;
    this.#options = options;
    this.#migration = new Migration(subject.device);
    this.#image = new MemoryImage(subject.domain);
  }

  async run(): Promise<Figures> {
    using _image = this.#image;
    let stoppedMs = 0;
    try {
      await this.#offer();
      await this.#copyRounds();
      stoppedMs = performance.now();
      await this.#stopAndCopy();
    } catch (error) {
      this.#putBack();
      throw error;
    }
    await this.#giveAway();
    const figures = this.#figures(performance.now() - stoppedMs);
    this.#stream?.close();
    this.#subject.gone(`moved to ${this.#options.to}`);
    this.#paused?.[Symbol.dispose]();
    return figures;
  }

  async #offer(): Promise<void> {
    const { device, name } = this.#subject;
    if (this.#migration.flags === 0) throw new VfioError('EOPNOTSUPP', `${name} cannot be moved: its model does not support migration`);
    if (this.#migration.state !== 'RUNNING')
      throw new VfioError('EBUSY', `${name} is already being moved: it is in ${this.#migration.state}`);
    this.#image.refresh();
    const ids = device.region(RegionIndex.CONFIG).read32(0) >>> 0;
    await this.#link.sendJson(Kind.OFFER, { format: FORMAT, version: VERSION, id: this.#id, name, ids, page: PAGE });
    await this.#link.expect(Kind.READY, READY_MS);
  }

  // --- while the device runs

  async #copyRounds(): Promise<void> {
    const { downtimeMs } = this.#options;
    this.#startLogging();
    if (this.#migration.precopies) this.#stream = this.#migration.go('PRE_COPY');
    await this.#sendExtents(true);
    let rate = RATE;
    let before = Number.POSITIVE_INFINITY;
    let stalled = 0;
    for (let round = 1; ; round++) {
      if (this.#logged) this.#image.noteDeviceWrites(this.#migration);
      const scanMs = await this.#image.scan(() => this.#turn());
      await this.#sendExtents();
      const memory = this.#image.changedPages * PAGE;
      const device = this.#deviceLeft();
      this.#left = memory + device;
      await this.#tell(true);
      if (round > 1) {
        const predictedMs = FIXED_MS + scanMs + this.#left / rate;
        if (predictedMs <= downtimeMs && downtimeMs !== Number.POSITIVE_INFINITY) return;
        stalled = this.#left > before * 0.9 ? stalled + 1 : 0;
        if (stalled >= STALLED_MAX || round > ROUNDS_MAX) {
          if (downtimeMs === Number.POSITIVE_INFINITY) return;
          throw new VfioError(
            'ETIMEDOUT',
            `${this.#subject.name} changes as fast as the server copies it: after ${round - 1} rounds a stop would take about ${Math.ceil(predictedMs)} ms`,
            { fix: `Allow it with --downtime-ms ${Math.ceil(predictedMs * 1.5)}, or try again when the device has less to do.` },
          );
        }
      }
      before = this.#left;
      this.#rounds = round;
      const begun = performance.now();
      const sent = this.#link.bytesSent;
      await this.#sendDevice(device);
      await this.#sendPages();
      const bytes = this.#link.bytesSent - sent;
      // A short round measures the rate badly.
      if (bytes >= RATE_BYTES) rate = Math.max(1, bytes / (performance.now() - begun));
    }
  }

  #startLogging(): void {
    const ranges = rangesToLog(this.#image.mappings);
    if (ranges.length === 0) return;
    try {
      this.#migration.startLogging(ranges);
      this.#logged = true;
    } catch (error) {
      // Of a device that keeps no log, the hashes show the writes as well.
      if (!(error instanceof VfioError) || error.code !== 'ENOTTY') throw error;
    }
  }

  #deviceLeft(): number {
    try {
      return this.#migration.stopCopyBytes;
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ENOTTY') return 0;
      throw error;
    }
  }

  /** @param all also the pages that are already marked */
  async #sendExtents(all = false): Promise<void> {
    const fresh = this.#image.refresh();
    for (const payload of encodeExtents(all ? this.#image.extents : fresh)) await this.#link.send(Kind.EXTENTS, payload);
  }

  /** Send the data that the device has while it runs, `most` bytes and a little more. */
  async #sendDevice(most: number): Promise<void> {
    const stream = this.#stream;
    if (stream === null) return;
    try {
      for (let sent = 0; sent <= most; ) {
        const got = stream.read(this.#chunk);
        if (got === 0) return;
        sent += got;
        await this.#sendChunk(got);
        await this.#turn();
      }
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ENOMSG') throw error;
    }
  }

  async #sendChunk(bytes: number): Promise<void> {
    this.#deviceBytes += bytes;
    await this.#link.send(Kind.DEVICE, this.#chunk.subarray(0, bytes));
  }

  /** Send all marked pages. */
  async #sendPages(): Promise<void> {
    for (const extent of this.#image.extents) {
      if (!extent.live) continue;
      for (let run = extent.nextRun(); run !== null; run = extent.nextRun()) {
        const kinds = extent.take(run.first, run.count, this.#pages);
        for (let at = 0; at < run.count; ) {
          let end = at + 1;
          while (end < run.count && kinds[end] === kinds[at]) end++;
          await this.#sendRun(kinds[at]!, extent.number, run.first + at, end - at, this.#pages.subarray(at * PAGE, end * PAGE));
          at = end;
        }
        this.#left -= run.count * PAGE;
        await this.#turn();
      }
    }
  }

  async #sendRun(kind: Taken, extent: number, first: number, count: number, bytes: Uint8Array): Promise<void> {
    if (kind === 'nothing') return;
    encodePagesHead(extent, first, count, this.#head);
    if (kind === 'zeroes') {
      await this.#link.send(Kind.ZEROES, this.#head);
      return;
    }
    this.#memoryBytes += bytes.length;
    await this.#link.send(Kind.PAGES, this.#head, bytes);
  }

  /** Yield the thread from time to time, so that the users of the device are served. */
  async #turn(): Promise<void> {
    // The other side speaks at this point only to give up: `poll` throws its reason.
    if (this.#link.poll() !== null) throw new VfioError('EPROTO', 'the destination speaks before it is asked');
    if (performance.now() - this.#turnMs < TURN_MS) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#turnMs = performance.now();
    await this.#tell(false);
  }

  async #tell(always: boolean): Promise<void> {
    const now = performance.now();
    if (!always && now - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = now;
    const progress: Progress = { round: this.#rounds, sent: this.#memoryBytes + this.#deviceBytes, left: Math.max(0, this.#left) };
    await this.#link.sendJson(Kind.PROGRESS, progressBody(progress));
  }

  // --- while the device stands still

  async #stopAndCopy(): Promise<void> {
    const { downtimeMs } = this.#options;
    const most = Math.min(Math.max(STOP_LEAST_MS, downtimeMs * 4), STOP_MOST_MS);
    const timer = setTimeout(() => {
      this.#link.fail(new VfioError('ETIMEDOUT', `${this.#subject.name} stood still for ${most} ms, and the hand-over was not done`));
    }, most);
    try {
      this.#paused = this.#subject.pause();
      const made = this.#migration.go('STOP_COPY');
      this.#stream ??= made;
      await this.#link.sendJson(Kind.STOPPED, {});
      await this.#sendExtents();
      await this.#image.scan(null);
      await this.#sendPages();
      await this.#sendRest();
      for (const payload of encodeMappings(this.#image.mappings)) await this.#link.send(Kind.MAPPINGS, payload);
      await this.#link.sendJson(Kind.END, { frames: this.#link.framesSent, bytes: this.#link.bytesSent });
      await this.#link.expect(Kind.LOADED, LOADED_MS);
    } finally {
      clearTimeout(timer);
    }
  }

  async #sendRest(): Promise<void> {
    for (;;) {
      try {
        const got = this.#stream!.read(this.#chunk);
        if (got === 0) return;
        await this.#sendChunk(got);
      } catch (error) {
        // DMA issued before the stop is still in flight.
        if (!(error instanceof VfioError) || error.code !== 'EAGAIN') throw error;
        await new Promise<void>((resolve) => setTimeout(resolve, 1));
        this.#link.poll();
      }
    }
  }

  /**
   * From here on the device does not run here, unless the other side says that it does not run
   * there.
   */
  async #giveAway(): Promise<void> {
    try {
      await this.#link.sendJson(Kind.GO, { id: this.#id });
    } catch (error) {
      // The other side has not received the whole frame and will not run the device.
      this.#putBack();
      throw error;
    }
    try {
      await this.#link.expect(Kind.RUNNING, GO_MS);
    } catch (error) {
      if (error instanceof Refused) {
        this.#putBack();
        throw error;
      }
      const letGo = (): void => {
        this.#subject.gone('moved: its administrator has looked at the destination');
        this.#paused?.[Symbol.dispose]();
      };
      throw new InDoubt(this.#id, error, () => this.#putBack(), letGo);
    }
  }

  /** Restore the device as if no move had begun. */
  #putBack(): void {
    this.#stream?.close();
    const steps = [
      () => {
        // A reset by the client has started the device already.
        if (this.#migration.state !== 'RUNNING') this.#migration.go('RUNNING');
      },
      () => {
        if (this.#logged) this.#migration.stopLogging();
      },
    ];
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        // The client may have left, and its device with it.
        if (!(error instanceof VfioError)) throw error;
      }
    }
    this.#paused?.[Symbol.dispose]();
  }

  #figures(downtimeMs: number): Figures {
    return {
      id: this.#id,
      rounds: this.#rounds,
      memoryBytes: this.#memoryBytes,
      deviceBytes: this.#deviceBytes,
      downtimeMs,
      totalMs: performance.now() - this.#begun,
    };
  }
}
