/** A server's description of a region, in the form that a device file of the kernel has. */
import type { RegionInfo } from '../../abi/device.ts';
import { Bar, Config } from '../../abi/pci.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { withoutCaps, withoutWholeArea } from '../../device/region-capabilities.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { closeAll } from '../frames.ts';
import { Command, type RegionInfoReply, regionInfo } from '../messages.ts';
import type { ClientConnection } from './connection.ts';
import type { ClientRegionIo } from './region-io.ts';
import { RegionMemory } from './region-memory.ts';

/** Room for the capabilities of most regions: the descriptor comes only when all of them fit. */
const USUAL_ARGSZ = 4096;
/** A server that announces more is not believed. */
const MAX_ARGSZ = 65536;
const PAGE = 4096;

const { MMAP } = RegionFlags;

export interface RegionDescription {
  readonly info: RegionInfo;
  readonly memory: RegionMemory | null;
}

/**
 * @param config for the kind of a BAR
 * @throws VfioError EINVAL when the server has no such region
 */
export function describeRegion(connection: ClientConnection, config: ClientRegionIo, index: number): RegionDescription {
  let reply = ask(connection, index, USUAL_ARGSZ);
  if (reply.argsz > USUAL_ARGSZ) {
    closeAll(connection.takeReplyFds());
    if (reply.argsz > MAX_ARGSZ) throw connection.badReply(Command.DEVICE_GET_REGION_INFO, `${reply.argsz} bytes are announced`);
    reply = ask(connection, index, reply.argsz);
  }
  const fds = connection.takeReplyFds();
  const { info, offset } = reply;
  // Clients take an error for the end of the list, so servers describe an empty region where the
  // kernel answers an error.
  if (index >= RegionIndex.VGA && info.flags === 0 && info.size === 0) {
    closeAll(fds);
    throw new VfioError('EINVAL', `${connection.name} has no region ${index}`);
  }
  const areas = info.sparseAreas ?? [{ offset: 0, size: Math.ceil(info.size / PAGE) * PAGE }];
  let fd: OwnedFd | undefined;
  if ((info.flags & MMAP) !== 0) fd = fds.shift();
  closeAll(fds);
  const memory = fd === undefined ? null : new RegionMemory(fd, offset, areas);
  return { info: memory === null ? withoutMemory(connection, config, info) : withoutWholeArea(info), memory };
}

function ask(connection: ClientConnection, index: number, argsz: number): RegionInfoReply {
  const reply = connection.ask(regionInfo, { argsz, index }, `GET_REGION_INFO of region ${index}`);
  if (reply.info.index !== index)
    throw connection.badReply(Command.DEVICE_GET_REGION_INFO, `index ${reply.info.index} instead of ${index}`);
  return reply;
}

/**
 * The server shares nothing. A mapping is made of messages then, and every BAR can be mapped that a
 * device file would let map, which is memory of whole pages.
 */
function withoutMemory(connection: ClientConnection, config: ClientRegionIo, info: RegionInfo): RegionInfo {
  // Areas without MMAP: only parts of the region may be mapped, in any way.
  const { sparseAreas, ...whole } = info;
  const rest = sparseAreas !== undefined && (info.flags & MMAP) === 0 && info.index < RegionIndex.ROM ? info : whole;
  const flags = withoutCaps(rest);
  if (info.index >= RegionIndex.ROM || info.size < PAGE) return { ...rest, flags: flags & ~MMAP };
  return { ...rest, flags: isIo(connection, config, info.index) ? flags & ~MMAP : flags | MMAP };
}

function isIo(connection: ClientConnection, config: ClientRegionIo, bar: number): boolean {
  const at = Config.BASE_ADDRESS_0 + 4 * bar;
  const errno = config.load(at, 4);
  if (errno !== 0) throw config.failure(errno, 'reading', at, 4);
  return (connection.reply.getUint32(config.loaded, true) & Bar.SPACE_IO) !== 0;
}
