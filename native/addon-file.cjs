// Which file holds the addon, and which C sources belong into it. native/build.js makes the file,
// src/sys/addon-file.ts finds it, and tools/build.js writes the digest of the sources into dist/.
const { createHash } = require('node:crypto');
const { readdirSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

/** Text before the digest that the compiled addon holds. */
const MARK = 'vfio-ts addon of sources ';

/** C files of the addon, and the headers that they include. @returns {string[]} names, sorted */
const sources = () =>
  readdirSync(__dirname)
    .filter((name) => /\.[ch]$/.test(name))
    .sort();

/** @returns {string} 64 hexadecimal digits that change whenever a source changes */
function digest() {
  const hash = createHash('sha256');
  for (const name of sources())
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(__dirname, name)))
      .update('\0');
  return hash.digest('hex');
}

/**
 * The C library of this process: musl maps its dynamic linker under a name of its own.
 * @returns {'glibc' | 'musl'}
 */
const libc = () => (/\/ld-musl-/.test(readFileSync('/proc/self/maps', 'latin1')) ? 'musl' : 'glibc');

/**
 * The place in the package, by the convention of prebuildify and node-gyp-build.
 * @returns {string}
 */
const prebuilt = (arch, libcName) => join('prebuilds', `linux-${arch}`, `node.napi.${libcName}.node`);

/**
 * Whether the addon in `file` is made of the sources with this digest. A file that is not there is
 * made of no sources.
 * @returns {boolean}
 */
function isOf(file, sourceDigest) {
  try {
    return readFileSync(file).includes(MARK + sourceDigest);
  } catch (error) {
    if (error.code === 'ENOENT') return false;
    throw error;
  }
}

module.exports = { MARK, sources, digest, libc, prebuilt, isOf };
