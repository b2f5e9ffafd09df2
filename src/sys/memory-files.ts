/** A computer's files that are in memory, as an archive holds them. */
import { followLinks, type HostFiles } from './host-files.ts';

/** An entry of a tree: a file with bytes, a symbolic link, a directory. */
export type FileEntry = { readonly bytes: Uint8Array } | { readonly link: string } | { readonly directory: true };

const decoder = new TextDecoder('utf-8');

/** Files in memory, by path. Directories above an entry are there by themselves. */
export class MemoryFiles implements HostFiles {
  readonly origin: string;
  readonly live = false;
  readonly #entries = new Map<string, FileEntry>();
  readonly #names = new Map<string, Set<string>>([['/', new Set()]]);

  constructor(origin: string, entries: Iterable<readonly [path: string, entry: FileEntry]>) {
    this.origin = origin;
    for (const [path, entry] of entries) this.#add(path, entry);
  }

  #add(path: string, entry: FileEntry): void {
    // A name without `..` in it: an archive is not trusted to stay where it is.
    const parts = path.split('/').filter((part) => part !== '' && part !== '.' && part !== '..');
    if (parts.length === 0) return;
    let above = '/';
    for (const part of parts) {
      this.#names.get(above)?.add(part);
      above = above === '/' ? `/${part}` : `${above}/${part}`;
      if (!this.#names.has(above)) this.#names.set(above, new Set());
    }
    if (!('directory' in entry)) {
      this.#entries.set(above, entry);
      this.#names.delete(above);
    }
  }

  #resolve(path: string, last = true): string | null {
    return followLinks(path, last, (at) => {
      const entry = this.#entries.get(at);
      return entry !== undefined && 'link' in entry ? entry.link : null;
    });
  }

  text(path: string): string | null {
    const bytes = this.bytes(path);
    return bytes === null ? null : decoder.decode(bytes);
  }

  bytes(path: string): Uint8Array | null {
    const at = this.#resolve(path);
    const entry = at === null ? undefined : this.#entries.get(at);
    return entry !== undefined && 'bytes' in entry ? entry.bytes : null;
  }

  link(path: string): string | null {
    const at = this.#resolve(path, false);
    const entry = at === null ? undefined : this.#entries.get(at);
    return entry !== undefined && 'link' in entry ? entry.link : null;
  }

  list(path: string): readonly string[] {
    const at = this.#resolve(path);
    return at === null ? [] : [...(this.#names.get(at) ?? [])].sort();
  }

  exists(path: string): boolean {
    const at = this.#resolve(path);
    return at !== null && (this.#entries.has(at) || this.#names.has(at));
  }
}
