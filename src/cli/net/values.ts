/** Kinds of values of `vfio net …`. */
import { VfioError } from '../../base/errno.ts';
import { parseSize } from '../../base/size.ts';
import { macBytes, stationBytes } from '../../drivers/82576/mac-address.ts';
import type { ValueKind } from '../values.ts';

/** With the frame check sequence, as the sizes of frames are named (RFC 2544, 9). */
export const FRAME_BYTES_MIN = 64;
export const FRAME_BYTES_MAX = 9728;
/** A frame lies in memory without it. */
export const CHECK_SEQUENCE_BYTES = 4;
/** How the driver finds frames. */
export const interruptKinds = ['msix', 'msi', 'intx', 'poll'] as const;
export type Interrupts = (typeof interruptKinds)[number];

const VLAN_MAX = 4094;
/** VFs that the driver of a physical function serves: 0 to 6. */
export const VF_MAX = 6;

const wrong = (fix: string): never => {
  throw new VfioError('EINVAL', fix, { fix });
};

/** The driver's own check of an address, for the command line. */
const checked =
  (check: (text: string) => Uint8Array) =>
  (text: string): string => {
    try {
      check(text);
      return text;
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return wrong(`${error.message[0]!.toUpperCase()}${error.message.slice(1)}. ${error.fix}`);
    }
  };

/** An Ethernet address. */
export const mac: ValueKind = { parse: checked(macBytes) };
const station = checked(stationBytes);

/** An IPv4 address, as four bytes. */
export const ipv4: ValueKind = {
  parse: (text) => {
    const bytes = /^\d{1,3}(\.\d{1,3}){3}$/.test(text) ? text.split('.').map(Number) : [];
    return bytes.length === 4 && bytes.every((byte) => byte < 256) ? Uint8Array.from(bytes) : wrong('Give an address such as 10.0.0.1.');
  },
};

/** The size of a frame. */
export const frameSize: ValueKind = {
  parse: (text) => {
    const bytes = parseSize(text);
    if (bytes >= FRAME_BYTES_MIN && bytes <= FRAME_BYTES_MAX) return bytes;
    return wrong(`Give a number of bytes from ${FRAME_BYTES_MIN} to ${FRAME_BYTES_MAX}.`);
  },
};

/** A frame as hexadecimal digits, with or without blanks and colons between them. */
export const hexFrame: ValueKind = {
  parse: (text) => {
    const digits = text.replaceAll(/[\s:]/g, '');
    if (!/^([\da-f]{2}){14,}$/i.test(digits) || digits.length / 2 > FRAME_BYTES_MAX) {
      return wrong(`Give hexadecimal digits of at least 14 bytes (two addresses and a type), and at most ${FRAME_BYTES_MAX}.`);
    }
    return Uint8Array.from(Buffer.from(digits, 'hex'));
  },
};

/** The settings of one virtual function, as the driver of its physical function chooses them. */
export interface VfSettings {
  readonly vf: number;
  readonly mac?: string;
  /** Default: none. */
  readonly vlan?: number;
  readonly spoofCheck?: boolean;
  readonly trust?: boolean;
}

const onOff = (text: string): boolean => (text === 'on' ? true : text === 'off' ? false : wrong('Give on or off.'));

const settingKinds: Readonly<Record<string, (text: string) => Partial<VfSettings>>> = {
  mac: (text) => ({ mac: station(text) }),
  vlan: (text) =>
    /^\d+$/.test(text) && Number(text) <= VLAN_MAX ? { vlan: Number(text) } : wrong(`Give a VLAN from 0 (none) to ${VLAN_MAX}.`),
  'spoof-check': (text) => ({ spoofCheck: onOff(text) }),
  trust: (text) => ({ trust: onOff(text) }),
};

/** `1,mac=52:54:00:00:00:01,vlan=100,spoof-check=off,trust=on`. */
export const vfSettings: ValueKind = {
  parse: (text): VfSettings => {
    const [vf = '', ...settings] = text.split(',');
    if (!/^\d$/.test(vf) || Number(vf) > VF_MAX) wrong(`Begin with the number of the VF, from 0 to ${VF_MAX}: 0,mac=52:54:00:00:00:01.`);
    let found: VfSettings = { vf: Number(vf) };
    for (const setting of settings) {
      const [, name = '', value = ''] = /^([a-z-]+)=(.*)$/.exec(setting) ?? [];
      const kind = Object.hasOwn(settingKinds, name)
        ? settingKinds[name]!
        : wrong(`Name settings: ${Object.keys(settingKinds).join(', ')}.`);
      found = { ...found, ...kind(value) };
    }
    return found;
  },
  suggest: async (word) => {
    const before = word.slice(0, word.lastIndexOf(',') + 1);
    return before === ''
      ? []
      : Object.keys(settingKinds)
          .filter((name) => !before.includes(`${name}=`))
          .map((name) => ({ value: `${before}${name}=` }));
  },
};
