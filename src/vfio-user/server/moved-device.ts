/**
 * A device that was moved here, with the memory that its driver and it share, on its way to a
 * client.
 */
import type { Device } from '../../abi/device.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { closeAll } from '../frames.ts';
import { type AdoptedCapability, type AdoptedMapping, AdoptedRow, encodeAdopted } from '../messages/adoption.ts';

export interface MovedDevice {
  readonly device: Device;
  /** The mappings on it. */
  readonly mappings: readonly AdoptedMapping[];
  readonly memories: readonly MemfdMemory[];
  /**
   * The client has the device, with the descriptors of the memories. They are needed here no
   * longer, except where they are mapped.
   */
  taken(): void;
  /** The client could not take it: it waits for another client. */
  giveBack(): void;
}

export function isMoved(opened: Device | MovedDevice): opened is MovedDevice {
  return 'giveBack' in opened;
}

/**
 * The capability and the descriptors that go with the reply.
 *
 * @param before descriptors that go first
 * @param most that the client takes in one message
 * @throws VfioError EINVAL when they are more
 */
export function handOver(
  { mappings, memories }: MovedDevice,
  before: number,
  most: number,
): { readonly capability: AdoptedCapability; readonly fds: readonly OwnedFd[] } {
  const needed = before + 1 + memories.length;
  if (needed > most) throw new VfioError('EINVAL', `VERSION: the client takes ${most} descriptors, and the device comes with ${needed}`);
  const fds: OwnedFd[] = [];
  using undo = new Cleanup();
  undo.defer(() => closeAll(fds));
  using table = MemfdMemory.allocate(Math.max(1, mappings.length * AdoptedRow.structSize));
  encodeAdopted(mappings, table.windows[0]!);
  fds.push(table.duplicateFd());
  for (const memory of memories) fds.push(memory.duplicateFd());
  undo.move();
  return { capability: { mappings: mappings.length, fdIndex: before, memories: memories.length }, fds };
}
