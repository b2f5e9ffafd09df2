/**
 * Names for class codes: base class, sub-class, programming interface. Other classes are given as a
 * number.
 */
import { shownValue } from '../base/declared.ts';
import { VfioError } from '../base/errno.ts';

export const classCodes = {
  unclassified: 0x00ff00,
  scsi: 0x010000,
  sata: 0x010601,
  nvme: 0x010802,
  ethernet: 0x020000,
  network: 0x028000,
  display: 0x038000,
  audio: 0x040100,
  multimedia: 0x048000,
  ram: 0x050000,
  memory: 0x058000,
  serial: 0x070002,
  communication: 0x078000,
  timer: 0x080200,
  system: 0x088000,
  input: 0x098000,
  usb: 0x0c0330,
  crypto: 0x108000,
  'signal-processing': 0x118000,
  accelerator: 0x120000,
} as const;

export type ClassName = keyof typeof classCodes;

/**
 * A class as people write it, in code and in machine files: a name of the table, six hexadecimal
 * digits (`020000`, `0x020000`), or a number of 24 bits.
 *
 * @throws VfioError EINVAL with the existing names
 */
export function parseClass(value: unknown, what: string): number {
  if (typeof value === 'string') {
    if (Object.hasOwn(classCodes, value)) return classCodes[value as ClassName];
    const digits = /^(?:0x)?([0-9a-f]{6})$/i.exec(value)?.[1];
    if (digits !== undefined) return Number.parseInt(digits, 16);
  }
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xff_ffff) return value;
  throw new VfioError('EINVAL', `${what} is ${shownValue(value)}, which is no class of devices`, {
    fix: `Give one of ${Object.keys(classCodes).join(', ')}, or a class code of six hexadecimal digits such as 020000.`,
  });
}
