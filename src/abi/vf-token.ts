/**
 * VF tokens: the secret that the driver of an SR-IOV device's physical function shares with whom it lets use virtual functions. People write it as a
 * UUID; on the wire and in VFIO_DEVICE_FEATURE_PCI_VF_TOKEN it is the UUID's 16 bytes in the order in which they are written.
 *
 * @see linux/include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN; linux/lib/uuid.c, uuid_parse()
 */

export const VF_TOKEN_BYTES = 16;
/** Characters of one that is written out. */
export const VF_TOKEN_LENGTH = 36;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes; null for what is no UUID. Upper and lower case are the same. */
export function parseVfToken(text: string): Uint8Array<ArrayBuffer> | null {
  if (typeof text !== 'string' || text.length !== VF_TOKEN_LENGTH || !UUID.test(text)) return null;
  const digits = text.replaceAll('-', '');
  return Uint8Array.from({ length: VF_TOKEN_BYTES }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** As `parseVfToken` reads it. */
export function formatVfToken(bytes: Uint8Array): string {
  const digits = Array.from(bytes.subarray(0, VF_TOKEN_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join('-');
}

/** `text` for people: where a token could stand in it there are asterisks, as many as there were characters. */
export function withoutVfTokens(text: string): string {
  return text
    .replace(/(vf_token(?:=|"\s*:\s*"))([^"\s]+)/gi, (_, name: string, value: string) => name + '*'.repeat(value.length))
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi, (uuid) => '*'.repeat(uuid.length));
}
