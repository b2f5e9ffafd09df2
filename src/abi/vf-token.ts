/**
 * VF tokens: the driver of an SR-IOV device's physical function shares this secret with those who
 * may use its virtual functions. People write a token as a UUID. On the wire and in
 * VFIO_DEVICE_FEATURE_PCI_VF_TOKEN a token is the UUID's 16 bytes, in the order in which people
 * write them.
 *
 * @see linux/include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN; linux/lib/uuid.c,
 *   uuid_parse()
 */

export const VF_TOKEN_BYTES = 16;
/** Characters of a token's text. */
export const VF_TOKEN_LENGTH = 36;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * The 16 bytes of a token's text; null for text that is no UUID. Upper and lower case are the same.
 */
export function parseVfToken(text: string): Uint8Array<ArrayBuffer> | null {
  if (typeof text !== 'string' || text.length !== VF_TOKEN_LENGTH || !UUID.test(text)) return null;
  const digits = text.replaceAll('-', '');
  return Uint8Array.from({ length: VF_TOKEN_BYTES }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** The text that `parseVfToken` reads. */
export function formatVfToken(bytes: Uint8Array): string {
  const digits = Array.from(bytes.subarray(0, VF_TOKEN_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join('-');
}

/**
 * `text` for people: asterisks stand where a token could stand, as many as there were characters.
 */
export function withoutVfTokens(text: string): string {
  return text
    .replace(/(vf_token(?:=|"\s*:\s*"))([^"\s]+)/gi, (_, name: string, value: string) => name + '*'.repeat(value.length))
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi, (uuid) => '*'.repeat(uuid.length));
}

/** One character of JSON, or one escape. */
const JSON_CHARACTER = /\\(?:u([0-9a-f]{4})|(["\\/bfnrt]))|[^\\]/giy;
const UNESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
/** Stands for an escaped character that would end a token: a quote, or white space. */
const NO_END = '\ufffd';

/**
 * JSON for people, and of the same length. Escapes do not hide a token: the search reads what a
 * parser reads. JSON with an escape that no parser reads is asterisks as a whole.
 */
export function jsonWithoutVfTokens(json: string): string {
  if (!json.includes('\\')) return withoutVfTokens(json);
  const pieces = Array.from(json.matchAll(JSON_CHARACTER), ([piece, code, letter]) => ({
    piece,
    escaped: piece.length > 1,
    character:
      code !== undefined ? String.fromCharCode(Number.parseInt(code, 16)) : letter === undefined ? piece : (UNESCAPED[letter] ?? letter),
  }));
  if (pieces.reduce((sum, { piece }) => sum + piece.length, 0) !== json.length) return '*'.repeat(json.length);
  // A quote that is escaped belongs to a value, or to JSON that a sentence quotes. The search takes
  // it for both.
  const quoting = withoutVfTokens(pieces.map(({ character }) => character).join(''));
  const quoted = withoutVfTokens(
    pieces.map(({ character, escaped }) => (escaped && /["\s]/.test(character) ? NO_END : character)).join(''),
  );
  return pieces
    .map(({ piece, character }, i) => ((quoting[i] === '*' || quoted[i] === '*') && character !== '*' ? '*'.repeat(piece.length) : piece))
    .join('');
}
