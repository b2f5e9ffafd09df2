/**
 * Addresses of devices as people write them: `sim:edu`, `sim:./my-device.ts`, `unix:/path.sock`,
 * `0000:03:00.0`, `mdev:UUID`, `lent:/path.sock`.
 */
import { resolve } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { parseBdf } from '../pci/bdf.ts';

export type Address =
  /** A model that comes with the package, with its options (`sim:edu,dmaMs=100`). */
  | { readonly kind: 'model'; readonly name: string; readonly options: AddressOptions }
  /** A model in a file, with its options: `sim:./uart.ts,baud=9600`. */
  | { readonly kind: 'file'; readonly path: string; readonly options: AddressOptions }
  /** A vfio-user server. */
  | { readonly kind: 'socket'; readonly path: string }
  /** A PCI device of this computer. */
  | { readonly kind: 'pci'; readonly bdf: string }
  /** A mediated device of this computer. */
  | { readonly kind: 'mdev'; readonly uuid: string }
  /** A device of this computer that a broker opens (`vfio lend`). */
  | { readonly kind: 'lent'; readonly path: string };

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Options of models whose value names a file, and the part of the value before its name. */
const fileOptions = /^((?:image|vfImage|capture)=|wire=(?:pcap|stream|stream-listen|dgram):|remote=)(.+)$/s;
/** The place of a socket that is no path. */
const inetPlace = /^[^/]*:\d+$/;

/**
 * Options as the user writes them: `size=1G` is text, `readonly` is 'true', and an option that is
 * given more than once is a list.
 */
export type AddressOptions = Readonly<Record<string, string | readonly string[]>>;

const forms = "'sim:edu', 'sim:./my-device.ts,option=value', 'unix:/path.sock' or '0000:03:00.0'";

/** @throws VfioError EINVAL for a text that is not an address */
export function parseAddress(text: string): Address {
  if (typeof text !== 'string' || text === '')
    throw new VfioError('EINVAL', `an address is missing; give ${forms}, or a model that device() made`);
  if (text.startsWith('unix:') && text.length > 5) return { kind: 'socket', path: text.slice(5) };
  if (text.startsWith('sim:') && text.length > 4) {
    const what = text.slice(4);
    const file = namesFile(what);
    const name = file ? pathIn(what) : what.split(',', 1)[0]!;
    const pairs = what.length === name.length ? [] : what.slice(name.length + 1).split(',');
    const options = parseOptions(pairs);
    return file ? { kind: 'file', path: name, options } : { kind: 'model', name, options };
  }
  if (text.startsWith('lent:') && text.length > 5) return { kind: 'lent', path: text.slice(5) };
  if (text.startsWith('mdev:')) {
    const uuid = text.slice(5).toLowerCase();
    if (UUID.test(uuid)) return { kind: 'mdev', uuid };
    throw new VfioError('EINVAL', `${JSON.stringify(text.slice(0, 80))} names no mediated device; write its UUID behind 'mdev:'`);
  }
  try {
    return { kind: 'pci', bdf: parseBdf(text) };
  } catch (cause) {
    throw new VfioError('EINVAL', `${JSON.stringify(text.slice(0, 80))} is not the address of a device; give ${forms}`, { cause });
  }
}

/** An address as programs print it: of a PCI function in full, every other one as it was given. */
export function printedAddress(text: string): string {
  const address = parseAddress(text);
  return address.kind === 'pci' ? address.bdf : text;
}

/** The text after `sim:` with full paths, for a process with another working directory. */
export function withFullPaths(device: string): string {
  if (namesFile(device)) {
    const path = pathIn(device);
    return resolve(path) + device.slice(path.length);
  }
  return device
    .split(',')
    .map((option) => option.replace(fileOptions, (all, before, path) => (inetPlace.test(path) ? all : before + resolve(path))))
    .join(',');
}

/** Whether a model's name is the name of a file. Addresses and machine files have the same rule. */
export function namesFile(name: string): boolean {
  return /[/.]/.test(name.split(',', 1)[0]!);
}

export function looksLikeFile(address: string): boolean {
  return address === '-' || (!/^(sim|unix|mdev|lent):/.test(address) && /[/]|\.(txt|hex|lspci|tar|t?[gx]z|tgz|bz2|zst)$/.test(address));
}

/**
 * The path in `sim:PATH,OPTION=VALUE`. A path may hold commas: the path ends where options can
 * begin, after the ending of a file with code.
 */
function pathIn(text: string): string {
  return /^.*?\.[cm]?[jt]s(?=,|$)/.exec(text)?.[0] ?? text.split(',', 1)[0]!;
}

function parseOptions(pairs: readonly string[]): AddressOptions {
  const options = new Map<string, string | readonly string[]>();
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    const name = at < 0 ? pair : pair.slice(0, at);
    if (!/^[a-z]\w*$/i.test(name)) throw new VfioError('EINVAL', `model option '${pair.slice(0, 40)}': write it as name=value`);
    const value = at < 0 ? 'true' : pair.slice(at + 1);
    const before = options.get(name);
    options.set(name, before === undefined ? value : [before, value].flat());
  }
  return Object.fromEntries(options);
}
