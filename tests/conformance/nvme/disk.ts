/**
 * The disk of every case, in this process or served by another: small transfers, so that large ones
 * are split, and a slow namespace.
 */
import { nvme } from '../../../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../../../src/models/storage/memory-storage.ts';
import type { DeviceModel } from '../../../src/pci/declaration.ts';

/**
 * Namespaces with blocks of 512 bytes, of 4096, and of 4096 whose commands never end within a test.
 */
export const SMALL = 1;
export const LARGE = 2;
export const SLOW = 3;
export const SMALL_BYTES = 16 * 2 ** 20;
export const LARGE_BYTES = 64 * 2 ** 20;

export default function disk(doorbells: 'registers' | 'mapped' = 'registers'): DeviceModel {
  return nvme({
    doorbells,
    serial: 'CONFORMANCE',
    queues: 8,
    queueEntries: 256,
    mdts: 5,
    namespaces: [
      { storage: new MemoryStorage(SMALL_BYTES), blockSize: 512 },
      { storage: new MemoryStorage(LARGE_BYTES), blockSize: 4096 },
      { storage: new MemoryStorage(2 ** 20), blockSize: 4096, limits: { latencyMs: 3_600_000 } },
    ],
  });
}
