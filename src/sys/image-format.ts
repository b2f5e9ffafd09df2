/**
 * Disk images that are not raw, by their first bytes, as the formats' own specifications have them.
 * When such an image is taken for raw, a guest finds a header instead of its disk, and its first
 * write destroys the image.
 *
 * LUKS is not among them: a disk that a guest has encrypted as a whole is a raw image that begins
 * with that header.
 */
import { readSync } from 'node:fs';

interface Signature {
  readonly format: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

const ascii = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));

const signatures: readonly Signature[] = [
  { format: 'qcow2', offset: 0, bytes: ascii('QFI\xfb') },
  { format: 'QED', offset: 0, bytes: ascii('QED\0') },
  { format: 'VMDK', offset: 0, bytes: ascii('KDMV') },
  { format: 'VMDK', offset: 0, bytes: ascii('COWD') },
  { format: 'VMDK', offset: 0, bytes: ascii('# Disk DescriptorFile') },
  { format: 'VHDX', offset: 0, bytes: ascii('vhdxfile') },
  { format: 'VHD', offset: 0, bytes: ascii('conectix') },
  { format: 'VDI', offset: 0x40, bytes: Uint8Array.of(0x7f, 0x10, 0xda, 0xbe) },
  { format: 'Parallels', offset: 0, bytes: ascii('WithoutFreeSpace') },
  { format: 'Parallels', offset: 0, bytes: ascii('WithouFreSpacExt') },
];
/** A VHD of fixed size has its header at the end alone. */
const FOOTER_BYTES = 512;
const footer: Signature = { format: 'VHD', offset: 0, bytes: ascii('conectix') };
const HEADER_BYTES = Math.max(...signatures.map(({ offset, bytes }) => offset + bytes.length));

/**
 * The name of the format that the open file `fd` of `size` bytes has; null: no known format, so the
 * file may be a raw image.
 */
export function imageFormat(fd: number, size: number): string | null {
  const head = readAt(fd, 0, HEADER_BYTES);
  const found = signatures.find((one) => begins(head, one));
  if (found !== undefined) return found.format;
  return size > FOOTER_BYTES && begins(readAt(fd, size - FOOTER_BYTES, FOOTER_BYTES), footer) ? footer.format : null;
}

function begins(bytes: Uint8Array, { offset, bytes: wanted }: Signature): boolean {
  return bytes.length >= offset + wanted.length && wanted.every((byte, i) => bytes[offset + i] === byte);
}

/** Fewer bytes than asked for at the end. */
function readAt(fd: number, position: number, size: number): Uint8Array {
  const into = new Uint8Array(size);
  return into.subarray(0, readSync(fd, into, 0, size, position));
}
