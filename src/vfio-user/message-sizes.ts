/**
 * How long a message to a server may be: as long as its structure, or as its argsz, where it has
 * one. SPDK and libvfio-user's sample send the whole buffer that they keep for the reply. The
 * server refuses a longer message as soon as the header, or the count or argsz in the fixed part,
 * shows the excess. It drops the body as it arrives, and so finds the next message. It does not
 * wait for bytes that a peer announces and does not send.
 */
import { DeviceFeature, IrqInfo, IrqSet, PrecopyInfo, RegionInfo } from '../abi/vfio-structs.ts';
import {
  Command,
  DirtyBitmap,
  DirtyPages,
  DirtyRange,
  DmaAccess,
  DmaMap,
  DmaUnmap,
  HEADER_BYTES,
  MigData,
  RegionAccess,
  RegionIoFds,
  UserDeviceInfo,
  Version,
  WriteMulti,
  WriteMultiEntry,
} from '../abi/vfio-user.ts';

/** The server does not read more JSON than this. */
export const MAX_JSON_BYTES = 65536;
/** MSI-X has no more vectors, so a message has no more bools. */
const VECTORS_MAX = 2048;
/** The largest is DMA_LOGGING_START; a request with too many ranges still gets its error. */
const FEATURE_DATA_MAX = 8192;

/** The pieces after the fixed part: as many as the count at byte `at` of the payload. */
interface Counted {
  readonly fixed: number;
  readonly at: number;
  readonly unit: number;
}

const counted: ReadonlyMap<number, Counted> = new Map<number, Counted>([
  [Command.REGION_WRITE, { fixed: RegionAccess.structSize, at: RegionAccess.count.offset, unit: 1 }],
  [Command.MIG_DATA_WRITE, { fixed: MigData.structSize, at: MigData.size.offset, unit: 1 }],
  [Command.REGION_WRITE_MULTI, { fixed: WriteMulti.structSize, at: WriteMulti.count.offset, unit: WriteMultiEntry.structSize }],
]);

/** Their payload begins with argsz. */
const sized: ReadonlySet<number> = new Set<number>([
  Command.DMA_MAP,
  Command.DMA_UNMAP,
  Command.DEVICE_GET_INFO,
  Command.DEVICE_GET_REGION_INFO,
  Command.DEVICE_GET_REGION_IO_FDS,
  Command.DEVICE_GET_IRQ_INFO,
  Command.DEVICE_SET_IRQS,
  Command.DIRTY_PAGES,
  Command.DEVICE_FEATURE,
  Command.MIG_DATA_READ,
  Command.MIG_GET_PRECOPY_INFO,
]);
const ARGSZ_BYTES = 4;

/** Payloads, at most, by command. DMA_READ and DMA_WRITE come as replies. */
function payloads(maxDataBytes: number): Readonly<Record<Command, number>> {
  return {
    [Command.VERSION]: Version.structSize + MAX_JSON_BYTES,
    [Command.DMA_MAP]: DmaMap.structSize,
    [Command.DMA_UNMAP]: DmaUnmap.structSize + DirtyBitmap.structSize,
    [Command.DEVICE_GET_INFO]: UserDeviceInfo.structSize,
    [Command.DEVICE_GET_REGION_INFO]: RegionInfo.structSize,
    [Command.DEVICE_GET_REGION_IO_FDS]: RegionIoFds.structSize,
    [Command.DEVICE_GET_IRQ_INFO]: IrqInfo.structSize,
    [Command.DEVICE_SET_IRQS]: IrqSet.structSize + VECTORS_MAX,
    [Command.REGION_READ]: RegionAccess.structSize,
    [Command.REGION_WRITE]: RegionAccess.structSize + maxDataBytes,
    [Command.DMA_READ]: DmaAccess.structSize + maxDataBytes,
    [Command.DMA_WRITE]: DmaAccess.structSize,
    [Command.DEVICE_RESET]: 0,
    [Command.DIRTY_PAGES]: DirtyPages.structSize + DirtyRange.structSize,
    [Command.REGION_WRITE_MULTI]: WriteMulti.structSize + maxDataBytes,
    [Command.DEVICE_FEATURE]: DeviceFeature.structSize + FEATURE_DATA_MAX,
    [Command.MIG_DATA_READ]: MigData.structSize,
    [Command.MIG_DATA_WRITE]: MigData.structSize + maxDataBytes,
    [Command.MIG_GET_PRECOPY_INFO]: PrecopyInfo.structSize,
  };
}

export class MessageSizes {
  /** Of the message, header included, by command. */
  readonly #most: Float64Array;

  constructor(maxDataBytes: number) {
    const table = Object.entries(payloads(maxDataBytes));
    this.#most = new Float64Array(Math.max(...table.map(([command]) => Number(command))) + 1).fill(HEADER_BYTES);
    for (const [command, bytes] of table) this.#most[Number(command)] = HEADER_BYTES + bytes;
  }

  /**
   * The number of bytes that the message whose header is at `head` may have; a message of an
   * unknown command is a header.
   *
   * @param have the number of its bytes that are there
   */
  most(view: DataView, head: number, have: number): number {
    const command = view.getUint16(head + 2, true);
    const most = command < this.#most.length ? this.#most[command]! : HEADER_BYTES;
    const size = view.getUint32(head + 4, true);
    if (size > most) return sized.has(command) ? Math.max(most, byArgsz(view, head, have)) : most;
    // The handler of the command checks a whole message.
    return size <= have ? most : Math.min(most, byCount(command, view, head, have));
  }
}

/** Unknown until the bytes are there: until then the limit of all messages holds. */
function byArgsz(view: DataView, head: number, have: number): number {
  if (have < HEADER_BYTES + ARGSZ_BYTES) return Number.POSITIVE_INFINITY;
  return HEADER_BYTES + view.getUint32(head + HEADER_BYTES, true);
}

function byCount(command: number, view: DataView, head: number, have: number): number {
  const row = counted.get(command);
  if (row === undefined || have < HEADER_BYTES + row.fixed) return Number.POSITIVE_INFINITY;
  return HEADER_BYTES + row.fixed + view.getUint32(head + HEADER_BYTES + row.at, true) * row.unit;
}
