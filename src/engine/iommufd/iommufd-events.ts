/** Fields of an iommufd's events: its mappings, as those of a container. */
import type { EventDetails } from '../../abi/event.ts';
import { IoasMapFlags } from '../../abi/iommufd.ts';
import type { PagesSource } from './pinned-pages.ts';

/** @param flags `IoasMapFlags` */
export function mapDetails(iova: bigint, size: bigint, flags: number, source: PagesSource | null): EventDetails<'dma-map'> {
  const access = accessWords[((flags & IoasMapFlags.READABLE) === 0 ? 0 : 1) + ((flags & IoasMapFlags.WRITEABLE) === 0 ? 0 : 2)];
  const memory = source?.kind === 'file' && source.memory.kind === 'remote' ? 'remote' : 'direct';
  return access === undefined ? { iova, size, memory } : { iova, size, access, memory };
}

const accessWords = [undefined, 'read', 'write', 'read, write'] as const;

/** An address that the kernel has picked. */
export const picked = (iova: bigint): { readonly iova: bigint } => ({ iova });

/** Bytes that were unmapped. */
export const unmapped = (size: bigint): { readonly size: bigint } => ({ size });
