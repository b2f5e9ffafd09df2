// Node looks for packages, and for the package.json that names a file's own package, in every
// directory above the file. Every user can write into some of those directories, such as /tmp. From
// such a directory only files of three users count: this user, root, and the owner of the file that
// is being loaded.
import { lstatSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Directories that every user can write, by path. */
const open = new Map();

/**
 * @throws Error when `path`, which `specifier` in the file `parent` stands for, is there because a
 *   different user has put something into an open directory
 */
export function refusePlanted(path, specifier, parent) {
  const owner = statSync(parent, { throwIfNoEntry: false })?.uid;
  const check = (directory, entry) => {
    if (!isPlanted(directory, entry, owner)) return;
    throw new Error(
      `'${specifier}', which ${parent} imports, is found by ${entry}: another user has put it into a directory that everybody can write`,
    );
  };
  for (let at = path; at !== dirname(at); at = dirname(at)) check(dirname(at), at);
  if (/^\.{0,2}\/|^[a-z]+:/.test(specifier)) return;
  // A link of a different user can lead anywhere, so the check covers every directory on the way.
  for (let at = dirname(parent); !path.startsWith(at === '/' ? at : `${at}/`); at = dirname(at)) {
    for (const name of ['node_modules', 'package.json']) check(at, join(at, name));
  }
}

/** Whether a user other than this one, root and `owner` has put `entry` into `directory`. */
export function isPlanted(directory, entry, owner) {
  let writable = open.get(directory);
  if (writable === undefined) {
    writable = (statSync(directory).mode & 0o002) !== 0;
    open.set(directory, writable);
  }
  if (!writable) return false;
  const uid = lstatSync(entry, { throwIfNoEntry: false })?.uid;
  return uid !== undefined && uid !== 0 && uid !== process.getuid() && uid !== owner;
}
