/**
 * Network interfaces that the computer is reached by: default routes, and the way to the
 * administrator who has logged in by ssh.
 *
 * @see linux/net/ipv4/fib_trie.c, fib_route_seq_show(); linux/net/ipv6/route.c,
 * rt6_info_route_proc; linux/Documentation/ABI/testing/sysfs-class-net
 */
import type { HostFiles } from '../sys/host-files.ts';
import { behindLink, functionsOfPath } from './host-path.ts';

interface Route {
  readonly interface: string;
  /** Bytes of the address. */
  readonly network: readonly number[];
  /** Bits. */
  readonly prefix: number;
}

const UP = 1;
const REJECT = 0x200;

/** Of a row, with addresses as words in the byte order of the processor. */
function route4(line: string): Route | null {
  const [name, destination, , flags, , , , mask] = line.trim().split(/\s+/);
  if (mask === undefined || (Number.parseInt(flags!, 16) & (UP | REJECT)) !== UP) return null;
  const bytes = (word: string) => [...word.matchAll(/../g)].map(([two]) => Number.parseInt(two, 16)).reverse();
  const bits = bytes(mask).reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0);
  return { interface: name!, network: bytes(destination!), prefix: bits };
}

function route6(line: string): Route | null {
  const fields = line.trim().split(/\s+/);
  const [destination, prefix] = fields;
  const flags = Number.parseInt(fields[8] ?? '', 16);
  const name = fields[9];
  if (name === undefined || name === 'lo' || (flags & (UP | REJECT)) !== UP) return null;
  const bytes = [...destination!.matchAll(/../g)].map(([two]) => Number.parseInt(two, 16));
  return { interface: name, network: bytes, prefix: Number.parseInt(prefix!, 16) };
}

function routes(files: HostFiles): readonly Route[] {
  const rows4 = (files.text('/proc/net/route') ?? '').split('\n').slice(1).map(route4);
  const rows6 = (files.text('/proc/net/ipv6_route') ?? '').split('\n').map(route6);
  return [...rows4, ...rows6].filter((route) => route !== null);
}

/** Interfaces with a default route. */
export function defaultInterfaces(files: HostFiles): readonly string[] {
  const names = routes(files).flatMap((route) => (route.prefix === 0 ? [route.interface] : []));
  return [...new Set(names)];
}

/** Bytes of an address, as text; null for another text. */
export function addressBytes(text: string): readonly number[] | null {
  const plain = text.replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.)/i, '');
  if (/^\d{1,3}(?:\.\d{1,3}){3}$/.test(plain)) return plain.split('.').map(Number);
  if (!/^[0-9a-f:]+$/i.test(plain) || !plain.includes(':')) return null;
  const [left = '', right] = plain.split('::');
  const words = (part: string) => (part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16)));
  const [head, tail] = [words(left), words(right ?? '')];
  const zeroes = right === undefined ? 0 : 8 - head.length - tail.length;
  const all = [...head, ...Array.from({ length: Math.max(0, zeroes) }, () => 0), ...tail];
  return all.length === 8 ? all.flatMap((word) => [word >> 8, word & 0xff]) : null;
}

/** The interface by which packets to an address leave; null where there is no route. */
export function interfaceTo(files: HostFiles, address: string): string | null {
  const bytes = addressBytes(address);
  if (bytes === null) return null;
  const bit = (of: readonly number[], i: number) => (of[i >> 3]! >> (7 - (i & 7))) & 1;
  const leads = ({ network, prefix }: Route) => {
    if (network.length !== bytes.length) return false;
    for (let i = 0; i < prefix; i++) if (bit(network, i) !== bit(bytes, i)) return false;
    return true;
  };
  const [best] = routes(files)
    .filter(leads)
    .sort((a, b) => b.prefix - a.prefix);
  return best?.interface ?? null;
}

/**
 * The functions that carry an interface, through bridges, bonds and VLANs.
 *
 * @param seen interfaces that were looked at: a copy of sysfs may have circles
 */
function functionsOfInterface(files: HostFiles, name: string, seen: Set<string> = new Set()): readonly string[] {
  if (seen.has(name)) return [];
  seen.add(name);
  const at = `/sys/class/net/${name}`;
  const device = behindLink(files, at);
  const direct = device === null ? [] : functionsOfPath(device);
  if (direct.length > 0) return direct;
  const folder = device ?? at;
  const lower = files.list(folder).flatMap((entry) => (entry.startsWith('lower_') ? [entry.slice('lower_'.length)] : []));
  return [...new Set(lower.flatMap((each) => functionsOfInterface(files, each, seen)))];
}

/**
 * The functions that carry an interface. A tunnel, or a port of Open vSwitch, does not say what is
 * below it: then `sure` is false, and all cards that are up may carry it.
 */
export function carriersOf(files: HostFiles, name: string): { readonly functions: readonly string[]; readonly sure: boolean } {
  const functions = functionsOfInterface(files, name);
  if (functions.length > 0) return { functions, sure: true };
  const up = files.list('/sys/class/net').filter((each) => files.text(`/sys/class/net/${each}/operstate`)?.trim() === 'up');
  return { functions: [...new Set(up.flatMap((each) => functionsOfInterface(files, each)))], sure: false };
}

/** Interfaces of the computer with the functions below them. */
export function hostInterfaces(files: HostFiles): ReadonlyMap<string, readonly string[]> {
  return new Map(files.list('/sys/class/net').map((name) => [name, functionsOfInterface(files, name)]));
}
