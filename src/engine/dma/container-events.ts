/**
 * Fields of a container's events. The requests may be of any type and value: the events say what
 * a request names as far as it can be said.
 */
import type { EventDetails } from '../../abi/event.ts';
import { Access } from '../../abi/memory.ts';
import { DirtyFlags, DmaMapFlags, DmaUnmapFlags, Extension } from '../../abi/vfio.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import type { MapDma, MapMemory, UnmapDma } from './type1-requests.ts';

const accessWords = { [Access.READ]: 'read', [Access.WRITE]: 'write', [Access.READ_WRITE]: 'read, write' } as const;

const u64 = (value: unknown): bigint =>
  typeof value !== 'bigint' ? 0n : value >= 0n && value <= U64_MAX ? value : BigInt.asUintN(64, value);
const number = (value: unknown): number => (Number.isSafeInteger(value) ? (value as number) : 0);

/** Mappings may be many: the fields are made in one piece. */
export function mapDetails({ iova, size, flags }: MapDma): EventDetails<'dma-map'> {
  // Memory that a process has is in this process.
  const memory = 'direct';
  if ((number(flags) & DmaMapFlags.VADDR) !== 0) return { iova: u64(iova), size: u64(size), memory, vaddrOnly: true };
  return mapping(u64(iova), u64(size), number(flags) & Access.READ_WRITE, memory);
}

export function memoryDetails({ iova, memory, offset = 0, size, access = Access.READ_WRITE }: MapMemory): EventDetails<'dma-map'> {
  const bytes = number(size ?? number(memory?.size) - number(offset));
  return mapping(u64(iova), u64(BigInt(bytes)), access, memory?.kind === 'remote' ? 'remote' : 'direct');
}

function mapping(iova: bigint, size: bigint, access: number, memory: 'direct' | 'remote'): EventDetails<'dma-map'> {
  return access in accessWords ? { iova, size, access: accessWords[access as Access], memory } : { iova, size, memory };
}

export function unmapDetails({ iova, size, flags = 0 }: UnmapDma): EventDetails<'dma-unmap'> {
  const vaddrOnly = (number(flags) & DmaUnmapFlags.VADDR) !== 0;
  return vaddrOnly ? { iova: u64(iova), size: u64(size), vaddrOnly } : { iova: u64(iova), size: u64(size) };
}

const dirtySteps: Readonly<Record<number, string>> = {
  [DirtyFlags.START]: 'START',
  [DirtyFlags.STOP]: 'STOP',
  [DirtyFlags.GET_BITMAP]: 'GET_BITMAP',
};

export function dirtyDetails(flags: number): EventDetails<'feature'> {
  const op = flags === DirtyFlags.GET_BITMAP ? 'get' : 'set';
  return { name: 'DIRTY_PAGES', op, value: dirtySteps[number(flags)] ?? `flags ${hexOf(flags)}` };
}

/** `TYPE1v2` */
export function iommuWords(type: number): string {
  if (type === Extension.TYPE1_IOMMU) return 'TYPE1';
  return type === Extension.TYPE1v2_IOMMU ? 'TYPE1v2' : `type ${hexOf(type)}`;
}

const hexOf = (value: unknown): string => (typeof value === 'number' && Number.isSafeInteger(value) ? hex(value) : '?');
