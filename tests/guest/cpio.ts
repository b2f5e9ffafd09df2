/**
 * Archives in cpio's "newc" form, which is what Linux unpacks as its first root file system.
 * @see linux/Documentation/driver-api/early-userspace/buffer-format.rst
 */

export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly bytes: Uint8Array; readonly executable?: boolean }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

/** File type and permissions of each kind, as in stat's st_mode. */
const Mode = { DIRECTORY: 0o040755, PROGRAM: 0o100755, FILE: 0o100644, LINK: 0o120777 } as const;

const TRAILER = 'TRAILER!!!';

/**
 * An archive of `entries` in the given order, with every missing parent directory before its first
 * child: Linux makes none by itself.
 *
 * @param entries paths without a leading slash
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  const directories = new Set<string>();
  let inode = 1;
  const add = (path: string, mode: number, content: Uint8Array) => {
    parts.push(header(path, mode, inode++, content.length), padded(content));
  };
  const addDirectory = (path: string) => {
    if (path === '' || directories.has(path)) return;
    addDirectory(parent(path));
    directories.add(path);
    add(path, Mode.DIRECTORY, new Uint8Array());
  };
  for (const entry of entries) {
    if (entry.path === '' || entry.path.startsWith('/')) throw new Error(`'${entry.path}' cannot be a path in an archive`);
    addDirectory(parent(entry.path));
    if (entry.kind === 'directory') addDirectory(entry.path);
    else if (entry.kind === 'link') add(entry.path, Mode.LINK, Buffer.from(entry.target));
    else add(entry.path, entry.executable ? Mode.PROGRAM : Mode.FILE, entry.bytes);
  }
  parts.push(header(TRAILER, 0, 0, 0));
  return Buffer.concat(parts);
}

/**
 * Magic, thirteen numbers in eight hex digits each, then the name with its NUL, filled up to four
 * bytes.
 */
function header(path: string, mode: number, inode: number, size: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = 1;
  const numbers = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.length, 0];
  const head = Buffer.from(`070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}`, 'latin1');
  return padded(Buffer.concat([head, name]));
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, new Uint8Array(-bytes.length & 3)]);
}

function parent(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
