/** The wires of this computer, by what they are plugged into. */
import type { Wire } from '../../abi/wire.ts';
import { addon, Sys } from '../addon.ts';
import { takeOver } from '../unix-socket.ts';
import { datagramOfFd, openDatagram } from './datagram.ts';
import type { FrameChannel } from './frame-channel.ts';
import { HostWire, type HostWireOptions } from './host-wire.ts';
import { parseNetAddress } from './net-address.ts';
import { connectStream, listenForStream, streamOfFd } from './stream-sources.ts';
import { openTap, tapOfFd } from './tap.ts';

/** A tap of this computer, which is made if it is not there. @throws VfioError as `openTap` */
export function tapWire(name: string, options?: HostWireOptions): Wire {
  return new HostWire(openTap(name), options);
}

/**
 * QEMU's netdev `stream` at a path or `host:port`: the side that connects, or the one that listens.
 * @throws VfioError EINVAL for an address that cannot be; EADDRINUSE, EACCES where it listens
 */
export function streamWire(address: string, listens: boolean, options?: HostWireOptions): Wire {
  const at = parseNetAddress(address);
  return new HostWire(listens ? listenForStream(at) : connectStream(at), options);
}

/** QEMU's netdev `dgram` with one peer. @throws VfioError as `openDatagram` */
export function datagramWire(local: string, remote: string, options?: HostWireOptions): Wire {
  return new HostWire(openDatagram(parseNetAddress(local), parseNetAddress(remote)), options);
}

/**
 * A descriptor that this process was started with, which is taken over: of a tap, of a stream
 * socket or of a datagram socket with its peer.
 *
 * @throws VfioError EBADF; EINVAL for another kind of file
 */
export function descriptorWire(number: number, options?: HostWireOptions): Wire {
  const fd = takeOver(number);
  const type = addon().getsockopt(fd.number, Sys.SO_TYPE);
  let channel: FrameChannel;
  if (type === Sys.SOCK_STREAM) channel = streamOfFd(fd);
  else if (type === Sys.SOCK_DGRAM) channel = datagramOfFd(fd);
  else channel = tapOfFd(fd);
  return new HostWire(channel, options);
}
