/**
 * Config space as hexadecimal text: what `lspci -x`, `-xxx` and `-xxxx` print and what `lspci -F`
 * reads.
 */
import { CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, HEADER_SIZE } from '../abi/pci.ts';
import { VfioError } from '../base/errno.ts';
import { bdfParts, parseBdf } from './bdf.ts';

/** Most bytes that are read at all: a thousand functions with all their registers. */
const MAX_TEXT = 16 * 1024 * 1024;

export interface ConfigDump {
  /** Canonical. */
  readonly bdf: string;
  /** 64, 256 or 4096 bytes; what the text leaves out reads as all ones. */
  readonly bytes: Uint8Array;
}

/**
 * One function as a dump: a line with its address, a line of 16 bytes each, an empty line.
 *
 * @param title what follows the address on its line; lspci -F ignores it
 */
export function toHex(bytes: Uint8Array, bdf: string, title = 'config space'): string {
  const { domain } = bdfParts(bdf);
  const name = domain === 0 ? parseBdf(bdf).slice(5) : parseBdf(bdf);
  const lines = [`${name} ${title.replaceAll(/[^\x20-\x7e]/g, ' ')}`];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, '0'));
    lines.push(`${at.toString(16).padStart(2, '0')}: ${row.join(' ')}`);
  }
  return `${lines.join('\n')}\n\n`;
}

/**
 * The functions in the output of `lspci -x`, `-xxx` or `-xxxx`, with or without `-v`. Lines that
 * are neither an address nor bytes are skipped.
 *
 * @throws VfioError EINVAL for a row that is malformed or outside of config space, bytes before any
 *   address, a function with no bytes, or no function
 */
export function parseHex(text: string): ConfigDump[] {
  if (text.length > MAX_TEXT) throw new VfioError('EINVAL', `a dump of ${text.length} characters; at most ${MAX_TEXT}`);
  const dumps: ConfigDump[] = [];
  let current: { bdf: string; bytes: Uint8Array; size: number } | null = null;
  const finish = (): void => {
    if (current === null) return;
    if (current.size === 0) throw new VfioError('EINVAL', `no bytes for ${current.bdf}`, { fix: 'Dump it with "lspci -xxxx" (as root).' });
    const size = [HEADER_SIZE, CFG_SPACE_SIZE, CFG_SPACE_EXP_SIZE].find((s) => s >= current!.size)!;
    dumps.push({ bdf: current.bdf, bytes: current.bytes.slice(0, size) });
    current = null;
  };
  let number = 0;
  for (const line of text.replace(/^\ufeff/, '').split('\n')) {
    number++;
    const address = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?:\s|$)/i.exec(line);
    const row = /^([0-9a-f]{2,8}):((?: [0-9a-f]{2})+)\s*$/i.exec(line);
    if (address !== null) {
      finish();
      current = { bdf: parseBdf(address[1]!), bytes: new Uint8Array(CFG_SPACE_EXP_SIZE).fill(0xff), size: 0 };
    } else if (row !== null) {
      const at = Number.parseInt(row[1]!, 16);
      const bytes = row[2]!
        .trim()
        .split(' ')
        .map((byte) => Number.parseInt(byte, 16));
      if (current === null) throw new VfioError('EINVAL', `line ${number}: bytes without an address such as "00:04.0" above them`);
      if (at % 16 !== 0 || bytes.length > 16) throw new VfioError('EINVAL', `line ${number}: a row is 16 bytes at a multiple of 16`);
      if (at >= CFG_SPACE_EXP_SIZE) {
        throw new VfioError(
          'EINVAL',
          `line ${number}: config space has ${CFG_SPACE_EXP_SIZE} bytes; 0x${at.toString(16)} is outside of it`,
        );
      }
      current.bytes.set(bytes, at);
      current.size = Math.max(current.size, at + bytes.length);
    } else if (/^[0-9a-f]{2,3}: /i.test(line)) {
      throw new VfioError('EINVAL', `line ${number} is neither text nor a row of bytes: ${JSON.stringify(line.slice(0, 60))}`);
    }
  }
  finish();
  if (dumps.length === 0) throw new VfioError('EINVAL', 'no function in the dump', { fix: 'It starts with a line such as "00:04.0 …".' });
  return dumps;
}
