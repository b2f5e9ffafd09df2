/** Folders that go when their owner or the process ends, by `process.exit` too. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folders = new Set<string>();
let watching = false;

function remove(path: string): void {
  if (folders.delete(path)) rmSync(path, { recursive: true, force: true });
}

export interface TemporaryFolder extends Disposable {
  readonly path: string;
}

/** A new folder of mode 0700. @param name what its name begins with */
export function temporaryFolder(name: string): TemporaryFolder {
  if (!watching) {
    watching = true;
    process.once('exit', () => {
      for (const path of [...folders]) remove(path);
    });
  }
  const path = mkdtempSync(join(tmpdir(), `${name}-`));
  folders.add(path);
  return { path, [Symbol.dispose]: () => remove(path) };
}
