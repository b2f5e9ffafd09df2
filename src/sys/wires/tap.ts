/**
 * A tap: a network interface of this computer whose other end is a descriptor (tun_tap(4),
 * linux/if_tun.h).
 */
import { constants, openSync } from 'node:fs';
import { Loss } from '../../abi/wire.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import { addon, sysError } from '../addon.ts';
import { FdWatch } from '../fd-watch.ts';
import { OwnedFd } from '../owned-fd.ts';
import { fromNode } from '../system-error.ts';
import { type ChannelUser, FRAMES_PER_TURN, type FrameChannel, FULL, LOST, TAKEN } from './frame-channel.ts';

const TUN = '/dev/net/tun';
const TUNSETIFF = 0x4004_54ca;
const TUNGETIFF = 0x8004_54d2;
const TUNSETCARRIER = 0x4004_54e2;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** struct ifreq on 64-bit Linux; the flags follow the name. */
const IFREQ_BYTES = 40;
const NAME_BYTES = 16;
/** A tap's MTU can be 65521 with a header of 14 bytes; more than a wire carries is missed. */
const READ_BYTES = 0x1_0000;
const EBADFD = 77;

/** @throws VfioError EINVAL for a name that Linux does not take, or takes as a pattern */
export function checkInterfaceName(name: string): void {
  if (/^[A-Za-z0-9_.-]{1,15}$/.test(name) && name !== '.' && name !== '..') return;
  throw new VfioError('EINVAL', `${JSON.stringify(name.slice(0, 40))} cannot be the name of a tap`, {
    fix: "A name has at most 15 letters, digits, '_', '.' and '-': tap:vfio0.",
  });
}

/**
 * The tap `name`. One that is not there is made, and goes with its descriptor.
 *
 * @throws VfioError EINVAL for a name that cannot be, or is that of another kind of interface;
 *   EPERM when this user may not use it; EBUSY while another program does; ENOENT, ENODEV without
 *   tun in the kernel
 */
export function openTap(name: string): FrameChannel {
  checkInterfaceName(name);
  let number: number;
  try {
    number = openSync(TUN, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw fromNode(error, `${TUN} cannot be opened`, { fix: 'Load the module: modprobe tun.' });
  }
  const fd = OwnedFd.own(number, `opening ${TUN}`);
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(new TextEncoder().encode(name));
  new DataView(request.buffer).setUint16(NAME_BYTES, IFF_TAP | IFF_NO_PI, true);
  const result = addon().ioctlBytes(fd.number, TUNSETIFF, request);
  if (result >= 0) return new TapChannel(fd, `tap ${name}`);
  fd[Symbol.dispose]();
  throw cannotAttach(result, name);
}

function cannotAttach(result: number, name: string): VfioError {
  if (result === -Errno.EPERM) {
    return new VfioError('EPERM', `this user may not use the tap ${name}`, {
      fix: `Make it for this user: ip tuntap add dev ${name} mode tap user $USER, as root.`,
    });
  }
  if (result === -Errno.EBUSY) {
    return new VfioError('EBUSY', `another program uses the tap ${name}`, { fix: 'Give each device a tap of its own.' });
  }
  if (result === -Errno.EINVAL) {
    return new VfioError('EINVAL', `${name} is an interface, and not a tap of one queue`, { fix: `See it: ip -d link show ${name}.` });
  }
  return sysError(result, `attaching to the tap ${name}`);
}

/**
 * A tap that a descriptor is attached to already, which is taken over.
 * @throws VfioError EINVAL for another kind of file, or a tap with headers before its frames
 */
export function tapOfFd(fd: OwnedFd): FrameChannel {
  const request = new Uint8Array(IFREQ_BYTES);
  const result = addon().ioctlBytes(fd.number, TUNGETIFF, request);
  const flags = new DataView(request.buffer).getUint16(NAME_BYTES, true);
  const end = request.indexOf(0);
  const name = new TextDecoder().decode(request.subarray(0, end < 0 ? NAME_BYTES : Math.min(end, NAME_BYTES)));
  if (result >= 0 && (flags & IFF_TAP) !== 0 && (flags & IFF_NO_PI) !== 0 && (flags & IFF_VNET_HDR) === 0) {
    return new TapChannel(fd, `tap ${name}`);
  }
  const what = fd.describe();
  fd[Symbol.dispose]();
  if (result < 0) {
    throw new VfioError('EINVAL', `the descriptor is ${what}, and neither a tap nor a socket`, {
      fix: 'Give one of a tap or of a socket.',
    });
  }
  throw new VfioError('EINVAL', `the descriptor of ${name} has headers before its frames, or no Ethernet`, {
    fix: 'Open it with IFF_TAP and IFF_NO_PI, and without IFF_VNET_HDR.',
  });
}

class TapChannel implements FrameChannel {
  readonly name: string;
  up = true;
  readonly #fd: OwnedFd;
  readonly #watch: FdWatch;
  readonly #sys = addon();
  readonly #bytes = new Uint8Array(READ_BYTES);
  #user: ChannelUser | null = null;

  constructor(fd: OwnedFd, name: string) {
    this.#fd = fd;
    this.name = name;
    this.#watch = new FdWatch(fd);
  }

  start(user: ChannelUser): void {
    this.#user = user;
    this.setLink(false);
    this.#watch.listen(() => this.#read());
  }

  #read(): boolean {
    const user = this.#user!;
    for (let i = 0; i < FRAMES_PER_TURN && !this.#fd.closed; i++) {
      const length = this.#sys.read(this.#fd.number, this.#bytes, 0, READ_BYTES);
      if (length > 0) {
        user.arrived(this.#bytes, 0, length);
        continue;
      }
      if (length === -Errno.EAGAIN || length === -Errno.EINTR) return true;
      this.#gone(length);
      return false;
    }
    return true;
  }

  /** The interface was removed, or its namespace has ended. */
  #gone(result: number): void {
    this.#watch.stopListening();
    if (!this.up) return;
    this.up = false;
    this.#user?.report(result === -EBADFD ? 'the interface is gone' : sysError(result, 'reading').message);
    this.#user?.carrierChanged();
  }

  send(bytes: Uint8Array, offset: number, length: number): number {
    const sent = this.#sys.write(this.#fd.number, bytes, offset, offset + length);
    if (sent >= 0) return TAKEN;
    if (sent === -Errno.EAGAIN) {
      this.#watch.onWritable(() => this.#user?.onRoom());
      return FULL;
    }
    // EIO: the interface is down (ip link set … up).
    this.#user?.tally.lose(Loss.FAILED);
    if (sent === -EBADFD) this.#gone(sent);
    return LOST;
  }

  /** The host's interface shows the carrier of the port; kernels before 5.0 do not. */
  setLink(on: boolean): void {
    const carrier = new Uint8Array(4);
    carrier[0] = on ? 1 : 0;
    this.#sys.ioctlBytes(this.#fd.number, TUNSETCARRIER, carrier);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }
}
