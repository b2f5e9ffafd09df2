/**
 * Fields of a container's events. The requests may be of any type and value: the events say what
 * a request names as far as it can be said.
 */
import type { EventDetails } from '../../abi/event.ts';
import { Access } from '../../abi/memory.ts';
import { DirtyFlags, DmaMapFlags, DmaUnmapFlags, Extension } from '../../abi/vfio.ts';
import { hex } from '../../base/check.ts';
import type { MapDma, MapMemory, UnmapDma } from './type1-requests.ts';

const accessWords = { [Access.READ]: 'read', [Access.WRITE]: 'write', [Access.READ_WRITE]: 'read, write' } as const;

const u64 = (value: unknown): bigint => (typeof value === 'bigint' ? BigInt.asUintN(64, value) : 0n);
const number = (value: unknown): number => (Number.isSafeInteger(value) ? (value as number) : 0);

function accessOf(access: number): { readonly access?: (typeof accessWords)[Access] } {
  return access in accessWords ? { access: accessWords[access as Access] } : {};
}

/** Memory that a process has is in this process. */
export function mapDetails({ iova, size, flags }: MapDma): EventDetails<'dma-map'> {
  return {
    iova: u64(iova),
    size: u64(size),
    ...accessOf(number(flags) & Access.READ_WRITE),
    memory: 'direct',
    ...((number(flags) & DmaMapFlags.VADDR) === 0 ? {} : { vaddrOnly: true }),
  };
}

export function memoryDetails({ iova, memory, offset = 0, size, access = Access.READ_WRITE }: MapMemory): EventDetails<'dma-map'> {
  return {
    iova: u64(iova),
    size: u64(BigInt(number(size ?? number(memory?.size) - number(offset)))),
    ...accessOf(access),
    memory: memory?.kind === 'remote' ? 'remote' : 'direct',
  };
}

export function unmapDetails({ iova, size, flags = 0 }: UnmapDma): EventDetails<'dma-unmap'> {
  return { iova: u64(iova), size: u64(size), ...((number(flags) & DmaUnmapFlags.VADDR) === 0 ? {} : { vaddrOnly: true }) };
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
