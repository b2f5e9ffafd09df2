/** Disk images for tests, in a directory that is removed with them. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, vi } from 'vitest';
import type { StorageQueue } from '../../src/abi/storage.ts';
import type { FileStorage } from '../../src/sys/file-storage.ts';

export const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-storage-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** The program that works on an image in a process of its own, as its arguments say. */
export const childFile = fileURLToPath(new URL('./file-storage-child.ts', import.meta.url));

let files = 0;
export const newPath = () => join(directory, `disk-${files++}.img`);

export function image(contents: Uint8Array | number = 1 << 16): string {
  const path = newPath();
  writeFileSync(path, typeof contents === 'number' ? new Uint8Array(contents) : contents);
  return path;
}

export const filled = (count: number, value: number) => new Uint8Array(count).fill(value);

export type Told = [tag: number, result: number];

export function opened(storage: FileStorage): { readonly queue: StorageQueue; readonly told: Told[] } {
  const told: Told[] = [];
  return { queue: storage.open((tag, result) => told.push([tag, result])), told };
}

/** Resolves when `count` operations have been reported from the event loop. */
export async function ended(told: readonly unknown[], count: number): Promise<void> {
  await vi.waitFor(() => expect(told.length).toBeGreaterThanOrEqual(count), { timeout: 120_000, interval: 1 });
}

/** The number of descriptors that this process has. */
export const descriptors = () => readdirSync('/proc/self/fd').length;
