/** Where a socket of a wire is: a path, or an address of the internet protocols with a port. */
import { Errno, VfioError } from '../../base/errno.ts';
import { addon, Sys } from '../addon.ts';

export type NetAddress =
  | { readonly kind: 'unix'; readonly path: string }
  /** In figures: nothing is looked up. */
  | { readonly kind: 'inet'; readonly host: string; readonly port: number };

/** `host:port` of IPv4 or `localhost`, `[host]:port` of IPv6. */
const INET = /^(localhost|\d{1,3}(?:\.\d{1,3}){3}|\[([0-9a-f:.]{2,45})\]):(\d{1,5})$/i;

/**
 * The address that `text` names: `127.0.0.1:5000`, `[::1]:5000`, or the path of a socket.
 * @throws VfioError EINVAL for a text that is neither
 */
export function parseNetAddress(text: string): NetAddress {
  const [, host, six, port] = INET.exec(text) ?? [];
  if (host !== undefined) {
    if (Number(port) < 1 || Number(port) > 65_535) throw new VfioError('EINVAL', `${text} has no port from 1 to 65535`);
    return { kind: 'inet', host: six ?? (host === 'localhost' ? '127.0.0.1' : host), port: Number(port) };
  }
  if (text === '' || /^[^/]*:\d*$/.test(text)) {
    throw new VfioError('EINVAL', `${JSON.stringify(text.slice(0, 80))} is no address of a socket`, {
      fix: 'Give a path, 127.0.0.1:5000 or [::1]:5000. Names of computers are not looked up.',
    });
  }
  return { kind: 'unix', path: text };
}

export function textOfAddress(address: NetAddress): string {
  if (address.kind === 'unix') return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** A socket of the internet protocols that has the family of `host`: its number, or -errno. */
export function inetSocket(host: string, type: number): number {
  return addon().socket(host.includes(':') ? Sys.AF_INET6 : Sys.AF_INET, type);
}

export const EINPROGRESS = 115;

/** For messages about the first try of a connection. */
export function whyOf(result: number): string {
  if (result === -Errno.ECONNREFUSED) return 'no peer listens there yet';
  if (result === -Errno.ENOENT) return 'no peer listens there yet';
  return `errno ${-result}`;
}
