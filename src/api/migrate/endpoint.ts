/** The ends between which a device moves, and the addresses that name them. */
import { VfioError } from '../../base/errno.ts';

/**
 * An end of a move: the door of a vfio-ts server on this computer, a server that waits at a TCP
 * port, or the standard streams of a command such as ssh.
 */
export type Endpoint =
  | { readonly kind: 'server'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'exec'; readonly command: string };

const forms =
  "'unix:/path.sock' (a server of this machine), 'tcp:HOST:PORT', or 'exec:ssh host vfio migrate --receive --stdio unix:/path.sock'";

/** @throws VfioError EINVAL for a text that is not such an address */
export function parseEndpoint(text: string): Endpoint {
  if (text.startsWith('unix:') && text.length > 5) return { kind: 'server', path: text.slice(5) };
  if (text.startsWith('exec:') && text.length > 5) return { kind: 'exec', command: text.slice(5) };
  const tcp = /^tcp:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(tcp?.[3]);
  if (tcp !== null && port <= 65_535) return { kind: 'tcp', host: (tcp[1] ?? tcp[2])!, port };
  throw new VfioError('EINVAL', `${JSON.stringify(text.slice(0, 80))} is not an end of a move; give ${forms}`);
}
