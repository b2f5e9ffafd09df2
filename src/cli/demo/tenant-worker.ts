/**
 * A tenant of the demo: a process of its own, without privileges, that has a virtual function's
 * address and a file with the token.
 */

import { open } from '../../api/open.ts';
import type { DriverContext } from '../../api/run-driver.ts';
import { VfioError } from '../../base/errno.ts';
import { NvmeDriver } from '../../drivers/nvme/nvme-driver.ts';
import { doTasks } from './worker-process.ts';

/** Requests that the worker takes. */
export interface TenantTasks {
  /** Open the function without the token. Returns the error. */
  knock(): Promise<{ code: string; lines: readonly string[] }>;
  /** With it: which disk it got, and whether it reads what it wrote. */
  enter(): Promise<{ serial: string; bytes: number; same: boolean }>;
}

export async function main(address: string, { token }: DriverContext): Promise<void> {
  await doTasks<TenantTasks>({
    async knock() {
      try {
        using _ = await open(address);
      } catch (error) {
        if (error instanceof VfioError) return { code: error.code, lines: error.explain().split('\n') };
        throw error;
      }
      return { code: 'none', lines: [] };
    },
    async enter() {
      await using driver = await NvmeDriver.start(await open(address, { ...(token === undefined ? {} : { token }) }));
      const ns = driver.namespace(1);
      const written = new Uint8Array(ns.blockSize).fill(0x5a);
      await ns.write(3, written);
      const read = await ns.read(3, 1);
      return { serial: driver.controller.serial, bytes: ns.bytes, same: Buffer.compare(read, written) === 0 };
    },
  });
}
