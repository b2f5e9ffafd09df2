/**
 * A device arrives: the destination loads its state into a fresh device and its memory into files
 * of the destination. The device stands still until the source says GO. Without GO the destination
 * drops the device.
 */
import type { Device, MigrationStream } from '../../abi/device.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { Migration } from '../../drivers/kit/migration.ts';
import type { MemfdMemory } from '../../sys/memfd.ts';
import type { AdoptedMapping } from '../../vfio-user/messages.ts';
import { ArrivingMemory } from './arriving-memory.ts';
import { isMoveId } from './figures.ts';
import { decodeJson, type Frame, Kind, kindName } from './frames.ts';
import type { Link } from './link.ts';
import { decodeExtents, decodeMappings, decodePages, FORMAT, type Mapping, PAGE, ROWS_MAX, VERSION } from './wire.ts';

/** A device that arrived and runs here. */
export interface Arrived extends Disposable {
  readonly id: string;
  readonly device: Device;
  readonly files: readonly MemfdMemory[];
  readonly mappings: readonly AdoptedMapping[];
}

export interface ArrivalOptions {
  /** The name of the server in messages. */
  readonly name: string;
  /** Opens a device in its state after power-on, which no client uses. */
  readonly open: () => Device;
  /** Called when the device runs here, before the source hears of it. */
  readonly arrived: (device: Arrived) => void;
}

const OFFER_MS = 30_000;
/** A source sends a frame at least this often. */
const SILENCE_MS = 60_000;

/**
 * @throws VfioError (rejects) when the device has not arrived. The destination then keeps nothing
 *   of it.
 */
export async function arrive(link: Link, options: ArrivalOptions): Promise<Arrived> {
  return await new Arrival(link, options).run();
}

class Arrival {
  readonly #link: Link;
  readonly #options: ArrivalOptions;
  readonly #memory = new ArrivingMemory();
  readonly #mappings: Mapping[] = [];
  #frames = 0;
  #bytes = 0;

  constructor(link: Link, options: ArrivalOptions) {
    this.#link = link;
    this.#options = options;
  }

  async run(): Promise<Arrived> {
    using undo = new Cleanup();
    undo.use(this.#memory);
    const offer = decodeJson(await this.#next(Kind.OFFER, OFFER_MS));
    const id = this.#checkOffer(offer);
    const device = undo.use(this.#options.open());
    const ids = device.region(RegionIndex.CONFIG).read32(0) >>> 0;
    if (offer.ids !== ids) {
      const text = (value: unknown) => (typeof value === 'number' ? value.toString(16).padStart(8, '0') : 'nothing');
      throw new VfioError(
        'EINVAL',
        `${this.#options.name} is another device: ${text(ids)} here, ${text(offer.ids)} there (device and vendor)`,
        {
          fix: 'Serve the same model, with the same options, at the destination.',
        },
      );
    }
    const migration = new Migration(device);
    const stream = migration.go('RESUMING')!;
    undo.defer(() => stream.close());
    await this.#link.sendJson(Kind.READY, { id });
    await this.#takeAll(stream);
    const mappings = this.#map(device);
    // From here on the device is in the state that it had at the source. A fault in its data shows
    // now.
    migration.go('STOP');
    await this.#link.sendJson(Kind.LOADED, { id });
    await this.#next(Kind.GO, SILENCE_MS);
    migration.go('RUNNING');
    stream.close();
    const owns = undo.move();
    const arrived: Arrived = { id, device, files: this.#memory.files, mappings, [Symbol.dispose]: () => owns[Symbol.dispose]() };
    this.#options.arrived(arrived);
    try {
      await this.#link.sendJson(Kind.RUNNING, { id });
    } catch {
      // The device runs here, even when the source does not hear of it.
    }
    return arrived;
  }

  #checkOffer({ format, version, id, page }: Record<string, unknown>): string {
    if (format !== FORMAT || typeof version !== 'number' || !(version >= 1) || !isMoveId(id)) {
      throw new VfioError('EPROTO', 'the first frame is not an offer of a device');
    }
    if (version > VERSION || page !== PAGE) {
      throw new VfioError(
        'EPROTO',
        `the source speaks version ${version} with pages of ${String(page)} bytes; here it is ${VERSION}, ${PAGE}`,
        {
          fix: 'Use the same version of vfio-ts on both sides.',
        },
      );
    }
    return id;
  }

  async #next(kind: Kind, timeoutMs: number): Promise<Frame> {
    const frame = await this.#link.receive(timeoutMs);
    if (frame.kind !== kind) throw new VfioError('EPROTO', `${kindName(frame.kind)} came in place of ${kindName(kind)}`);
    this.#count(frame);
    return frame;
  }

  #count({ payload }: Frame): void {
    this.#frames++;
    this.#bytes += payload.length;
  }

  async #takeAll(stream: MigrationStream): Promise<void> {
    for (;;) {
      const frame = await this.#link.receive(SILENCE_MS);
      if (frame.kind === Kind.END) {
        const { frames, bytes } = decodeJson(frame);
        if (frames === this.#frames && bytes === this.#bytes) return;
        throw new VfioError('EPROTO', `${String(frames)} frames were sent, and ${this.#frames} came`);
      }
      this.#count(frame);
      this.#take(frame, stream);
    }
  }

  #take(frame: Frame, stream: MigrationStream): void {
    const { kind, payload } = frame;
    switch (kind) {
      case Kind.EXTENTS:
        this.#memory.add(decodeExtents(payload));
        break;
      case Kind.PAGES: {
        const { extent, first, count, bytes } = decodePages(payload, true);
        this.#memory.write(extent, first, count, bytes);
        break;
      }
      case Kind.ZEROES: {
        const { extent, first, count } = decodePages(payload, false);
        this.#memory.clear(extent, first, count);
        break;
      }
      case Kind.DEVICE:
        stream.write(payload);
        break;
      case Kind.MAPPINGS:
        this.#mappings.push(...decodeMappings(payload));
        if (this.#mappings.length > ROWS_MAX) throw new VfioError('ENOSPC', `more than ${ROWS_MAX} mappings`);
        break;
      case Kind.PROGRESS:
      case Kind.STOPPED:
        break;
      default:
        throw new VfioError('EPROTO', `${kindName(kind)} came while the device was copied`);
    }
  }

  #map(device: Device): AdoptedMapping[] {
    const mappings = this.#mappings.map((mapping) => this.#memory.locate(mapping));
    for (const { iova, size, memory, offset, access } of mappings) {
      device.dma.map({ iova, memory: this.#memory.files[memory]!, offset, size, access });
    }
    return mappings;
  }
}
