/** How a port is started. */
import { I82576_FRAME_MAX, Mrqc, RSS_KEY_BYTES } from '../../abi/82576.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { checkTimeout } from '../kit/interrupts.ts';
import { macBytes, macText, stationBytes } from './mac-address.ts';
import { checkEntries } from './receive-queue.ts';
import type { SignalKind } from './signals.ts';

/** Fields of headers that receive-side scaling hashes (7.1.1.7). */
export type RssFields = 'ipv4' | 'ipv4-tcp' | 'ipv4-udp' | 'ipv6' | 'ipv6-tcp' | 'ipv6-udp' | 'ipv6-ex' | 'ipv6-tcp-ex' | 'ipv6-udp-ex';

/** Receive-side scaling. */
export interface RssOptions {
  /** 40 bytes. Default: the key that Microsoft's verification suite publishes. */
  readonly key?: Uint8Array;
  /** Default: IPv4 and IPv6, alone and with TCP. */
  readonly fields?: readonly RssFields[];
  /** 128 numbers of queues. Default: the queues in turn. */
  readonly indirection?: readonly number[];
}

/** How a port is started. */
export interface PortOptions {
  /** Default: the best kind that the device has. 'poll' uses no interrupt. */
  readonly interrupts?: SignalKind;
  /**
   * Pairs of a receive and a transmit queue. Default: 1. A physical function has up to 16, and 2
   * while it serves virtual functions; a virtual function has up to 2.
   */
  readonly queues?: number;
  /** Descriptors of a receive ring, and of a transmit ring: powers of two. Default: 512. */
  readonly receiveEntries?: number;
  readonly transmitEntries?: number;
  /** Bytes of payload of the longest frame, without header and tag. Default: 1500. */
  readonly mtu?: number;
  /** Default: the address that the card has, or that its physical function gives. */
  readonly mac?: string;
  /** Whether the card checks checksums of frames that come. Default: true. */
  readonly checksums?: boolean;
  /** Whether the card takes the VLAN tag out of frames that come. Default: false. */
  readonly stripVlan?: boolean;
  /** Default: with more than one queue pair. */
  readonly rss?: RssOptions;
  /** Pause frames of both directions. Default: as the partners agree. */
  readonly flowControl?: 'auto' | 'none' | 'receive' | 'transmit' | 'full';
  /**
   * The physical function serves virtual functions: it keeps to pool 7, and 7 virtual functions
   * can come and go while it works. Default: false.
   */
  readonly virtualFunctions?: boolean;
  /** How long a frame, or an answer to a mailbox message, may take. Default: 5000. */
  readonly timeoutMs?: number;
}

/** Options with all defaults. */
export interface PortSettings {
  readonly interrupts: SignalKind | undefined;
  readonly queues: number;
  readonly receiveEntries: number;
  readonly transmitEntries: number;
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly checksums: boolean;
  readonly stripVlan: boolean;
  readonly rssKey: Uint8Array;
  /** MRQC's bits; 0: no RSS. */
  readonly rssFields: number;
  readonly indirection: readonly number[] | null;
  readonly flowControl: 'auto' | 'none' | 'receive' | 'transmit' | 'full';
  readonly virtualFunctions: boolean;
  readonly timeoutMs: number;
}

/** Ethernet's header, one tag, and the check sequence. */
export const FRAME_OVERHEAD = 14 + 4 + 4;

/** MRQC's bit of each kind of header (8.10). */
const rssBits: Readonly<Record<RssFields, number>> = {
  ipv4: Mrqc.IPV4,
  'ipv4-tcp': Mrqc.TCP_IPV4,
  'ipv4-udp': Mrqc.UDP_IPV4,
  ipv6: Mrqc.IPV6,
  'ipv6-tcp': Mrqc.TCP_IPV6,
  'ipv6-udp': Mrqc.UDP_IPV6,
  'ipv6-ex': Mrqc.IPV6_EX,
  'ipv6-tcp-ex': Mrqc.TCP_IPV6_EX,
  'ipv6-udp-ex': Mrqc.UDP_IPV6_EX,
};

/** "Verifying the RSS Hash Calculation", Microsoft; 7.1.1.7.3 has the same key. */
const DEFAULT_KEY = Uint8Array.of(
  ...[0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb],
  ...[0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa],
);
const DEFAULT_FIELDS: readonly RssFields[] = ['ipv4', 'ipv4-tcp', 'ipv6', 'ipv6-tcp'];
/** The smallest MTU of IPv4 (RFC 791). */
const MTU_MIN = 68;

/**
 * @param most queue pairs that the function has
 * @throws VfioError EINVAL for an option
 */
export function settingsOf(options: PortOptions, most: number): PortSettings {
  const queues = 1 + checkIndex((options.queues ?? 1) - 1, most - 1, 'queues - 1');
  const mtu = MTU_MIN + checkIndex((options.mtu ?? 1500) - MTU_MIN, I82576_FRAME_MAX - FRAME_OVERHEAD - MTU_MIN, `mtu - ${MTU_MIN}`);
  const { key = DEFAULT_KEY, fields = DEFAULT_FIELDS, indirection = null } = options.rss ?? {};
  if (key.length !== RSS_KEY_BYTES) throw new VfioError('EINVAL', `an RSS key of ${key.length} bytes; it must have ${RSS_KEY_BYTES}`);
  const unknown = fields.find((field) => rssBits[field] === undefined);
  if (unknown !== undefined) {
    throw new VfioError('EINVAL', `RSS has no fields '${String(unknown)}'`, { fix: `It has ${Object.keys(rssBits).join(', ')}.` });
  }
  if (indirection !== null) for (const queue of indirection) checkIndex(queue, queues - 1, 'a queue of rss.indirection');
  if (indirection !== null && indirection.length !== 128) {
    throw new VfioError('EINVAL', `rss.indirection has ${indirection.length} queues; it must have 128`);
  }
  const rss = queues > 1 || options.rss !== undefined;
  return {
    interrupts: options.interrupts,
    queues,
    receiveEntries: checkEntries(options.receiveEntries ?? 512),
    transmitEntries: checkEntries(options.transmitEntries ?? 512),
    mtu,
    mac: options.mac === undefined ? null : stationBytes(options.mac),
    checksums: options.checksums ?? true,
    stripVlan: options.stripVlan ?? false,
    rssKey: key,
    rssFields: rss ? fields.reduce((all, field) => all | rssBits[field], 0) : 0,
    indirection,
    flowControl: options.flowControl ?? 'auto',
    virtualFunctions: options.virtualFunctions ?? false,
    timeoutMs: Math.max(1, checkTimeout(options.timeoutMs ?? 5000)),
  };
}

/** @throws VfioError EINVAL for a number that is no VLAN */
export function checkVlans(vlans: readonly number[]): void {
  const wrong = vlans.find((vlan) => !Number.isInteger(vlan) || vlan < 1 || vlan > 4094);
  if (wrong !== undefined) throw new VfioError('EINVAL', `${String(wrong)} is no VLAN`, { fix: 'VLANs are numbered from 1 to 4094.' });
}

/** @returns the address of a group, in one spelling @throws VfioError EINVAL */
export function checkGroup(mac: string): string {
  const bytes = macBytes(mac);
  if ((bytes[0]! & 1) === 1) return macText(bytes);
  throw new VfioError('EINVAL', `${mac} is no address of a group`, { fix: 'Its first byte must be odd; addMac takes stations.' });
}
