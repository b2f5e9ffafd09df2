/** Files whose changes are reported. */
import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Editors write a file in several steps, and several files at once. */
const SETTLE_MS = 100;

export class WatchedFiles implements Disposable {
  readonly #onChange: (path: string) => void;
  /**
   * Directories, not files: an editor that saves by renaming leaves the watcher of a file with the
   * old one.
   */
  readonly #directories = new Map<string, { readonly watcher: FSWatcher; readonly names: Set<string> }>();
  #settling: NodeJS.Timeout | null = null;

  constructor(onChange: (path: string) => void) {
    this.#onChange = onChange;
  }

  add(path: string): void {
    const directory = dirname(path);
    let watched = this.#directories.get(directory);
    if (watched === undefined) {
      const names = new Set<string>();
      const watcher = watch(directory, { persistent: false }, (_event, name) => {
        if (name !== null && names.has(name)) this.#changed(join(directory, name));
      });
      // A directory that is gone has no more changes to report.
      watcher.on('error', () => watcher.close());
      watched = { watcher, names };
      this.#directories.set(directory, watched);
    }
    watched.names.add(basename(path));
  }

  [Symbol.dispose](): void {
    if (this.#settling !== null) clearTimeout(this.#settling);
    this.#settling = null;
    for (const { watcher } of this.#directories.values()) watcher.close();
    this.#directories.clear();
  }

  #changed(path: string): void {
    if (this.#settling !== null) clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#settling = null;
      this.#onChange(path);
    }, SETTLE_MS);
    this.#settling.unref();
  }
}
