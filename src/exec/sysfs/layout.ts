/** The files of a machine's folder by path, before they are on a file system. */
import type { Attribute } from './attribute.ts';
import { folderOf, relativeLink } from './sysfs-paths.ts';

export type Entry =
  | { readonly kind: 'folder' }
  /** A symbolic link, relative as those of sysfs. */
  | { readonly kind: 'link'; readonly to: string }
  | { readonly kind: 'file'; readonly attribute: Attribute }
  /** A device node of /dev. */
  | { readonly kind: 'node'; readonly mode: number; readonly uid: number };

/** Paths are absolute, as the program sees them. Each folder comes before what is in it. */
export class Layout {
  readonly entries = new Map<string, Entry>();

  folder(path: string): void {
    if (path === '/' || this.entries.has(path)) return;
    this.folder(folderOf(path));
    this.entries.set(path, { kind: 'folder' });
  }

  file(path: string, attribute: Attribute): void {
    this.folder(folderOf(path));
    this.entries.set(path, { kind: 'file', attribute });
  }

  /** A link at `path` to the absolute path `target`. */
  link(path: string, target: string): void {
    const folder = folderOf(path);
    this.folder(folder);
    this.entries.set(path, { kind: 'link', to: relativeLink(folder, target) });
  }

  node(path: string, mode: number, uid: number): void {
    this.folder(folderOf(path));
    this.entries.set(path, { kind: 'node', mode, uid });
  }
}
