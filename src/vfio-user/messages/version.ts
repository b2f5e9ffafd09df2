/**
 * VERSION, the first message: the capabilities of both peers, as JSON. server/negotiation.ts makes
 * the server's answer.
 *
 * @see qemu/docs/interop/vfio-user.rst, "VFIO_USER_VERSION"
 */

import { formatVfToken, jsonWithoutVfTokens, parseVfToken } from '../../abi/vf-token.ts';
import { CapabilityDefaults } from '../../abi/vfio-user.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import { ADOPT_CAPABILITY, ADOPTED_CAPABILITY, type AdoptedCapability } from './adoption.ts';
import { message, showsAll } from './message.ts';
import { dec, text } from './shape.ts';

/** Followed by the capabilities: JSON in UTF-8 with a NUL at its end, or nothing. */
export const Version = struct('vfio_user_version', 4, { major: 'u16', minor: 'u16' });
/** A server does not read more JSON than this. */
const MAX_JSON_BYTES = 65536;

export interface MigrationCapability {
  readonly pgsize: number;
  readonly maxBitmapSize?: number;
}

/** A peer's capabilities, with defaults filled in. */
export interface Capabilities {
  /** Descriptors it can receive in one message. */
  readonly maxMsgFds: number;
  /** Bytes of data that one message to it may carry. */
  readonly maxDataXferSize: number;
  readonly maxDmaMaps: number;
  /**
   * Page sizes for DMA as a bitmap. JSON has no integers beyond 2^53, so larger ones are left out.
   */
  readonly pgsizes: bigint;
  readonly migration: MigrationCapability | null;
  /** A client says that it supports one; a server says which of the reply's descriptors it is. */
  readonly twinSocket: { readonly supported: boolean; readonly fdIndex?: number } | null;
  readonly writeMultiple: boolean;
}

export interface VersionMessage {
  readonly major: number;
  readonly minor: number;
  readonly capabilities: Capabilities;
  /**
   * The token of a client that opens a function of an SR-IOV device. It is no capability, never in
   * a reply, and kept nowhere.
   */
  readonly vfToken?: Uint8Array;
  /**
   * Bytes of replies to DMA_READ that a client can have in flight at once. The server keeps few in
   * flight for a client that does not say.
   */
  readonly dmaReadBytes?: number;
  /** A client wants the device that was moved here. */
  readonly adopt?: boolean;
  /** A client reads the reason of a refusal, behind the header of the error. */
  readonly reasons?: boolean;
  /** In the reply to such a client: the mappings and memories that come with the device. */
  readonly adopted?: AdoptedCapability;
}

/** The words of a message besides capabilities, under names of ours. */
export type OwnWords = Pick<VersionMessage, 'vfToken' | 'adopt' | 'adopted' | 'dmaReadBytes' | 'reasons'>;

/** A client's first message. */
export interface VersionRequest extends OwnWords {
  readonly major: number;
  readonly minor: number;
  readonly capabilities: Partial<Capabilities>;
}

/** Ours: the client's VF token, as a UUID. Servers that do not know the name ignore it. */
export const VF_TOKEN_CAPABILITY = 'vfio_ts_vf_token';

/** Ours: `dmaReadBytes`. */
const DMA_READ_CAPABILITY = 'vfio_ts_dma_read_bytes';

/** Ours: the client takes errors with a reason (messages/reason.ts). Others get the errno alone. */
const REASONS_CAPABILITY = 'vfio_ts_reasons';

export const defaultCapabilities: Capabilities = {
  maxMsgFds: CapabilityDefaults.MAX_MSG_FDS,
  maxDataXferSize: CapabilityDefaults.MAX_DATA_XFER_SIZE,
  maxDmaMaps: CapabilityDefaults.MAX_DMA_MAPS,
  pgsizes: BigInt(CapabilityDefaults.PGSIZES),
  migration: null,
  twinSocket: null,
  writeMultiple: false,
};

/** JSON's numbers are doubles. */
const EXACT = 2n ** 53n - 1n;
/** The most characters of a refused value in a message. */
const SHOWN_CHARS = 40;

/**
 * The payload of a VERSION message, request or reply.
 *
 * @throws VfioError EINVAL too short, no NUL at the end, not UTF-8, not JSON, or a known capability
 *   of the wrong type or out of range
 */
export function decodeVersion(payload: Uint8Array): VersionMessage {
  if (payload.length < Version.structSize) throw invalid(`${payload.length} bytes, ${Version.structSize} at least`);
  const view = viewOf(payload);
  const { major, minor } = Version.decode(view);
  const json = payload.subarray(Version.structSize);
  return { major, minor, ...(json.length === 0 ? { capabilities: defaultCapabilities } : parseCapabilities(json)) };
}

/**
 * @param capabilities those to name; none = no JSON at all
 * @param vfToken to show, with capabilities
 * @param words what else to say with them
 */
export function encodeVersion(
  major: number,
  minor: number,
  capabilities?: Partial<Capabilities>,
  vfToken: Uint8Array | null = null,
  words: Omit<OwnWords, 'vfToken'> = {},
): Uint8Array<ArrayBuffer> {
  const json =
    capabilities === undefined ? new Uint8Array(0) : new TextEncoder().encode(`${formatCapabilities(capabilities, vfToken, words)}\0`);
  const payload = new Uint8Array(Version.structSize + json.length);
  Version.encode(new DataView(payload.buffer), 0, { major, minor });
  payload.set(json, Version.structSize);
  return payload;
}

/** The capabilities as JSON without white space; those that are null are left out. */
export function formatCapabilities(
  capabilities: Partial<Capabilities>,
  vfToken: Uint8Array | null = null,
  { adopt, adopted, dmaReadBytes, reasons }: Omit<OwnWords, 'vfToken'> = {},
): string {
  const { maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes, migration, twinSocket, writeMultiple } = capabilities;
  return JSON.stringify({
    capabilities: {
      max_msg_fds: maxMsgFds,
      max_data_xfer_size: maxDataXferSize,
      max_dma_maps: maxDmaMaps,
      pgsizes: pgsizes === undefined ? undefined : Number(pgsizes & EXACT),
      migration: migration == null ? undefined : { pgsize: migration.pgsize, max_bitmap_size: migration.maxBitmapSize },
      twin_socket: twinSocket == null ? undefined : { supported: twinSocket.supported, fd_index: twinSocket.fdIndex },
      write_multiple: writeMultiple === true ? true : undefined,
      [VF_TOKEN_CAPABILITY]: vfToken === null ? undefined : formatVfToken(vfToken),
      [DMA_READ_CAPABILITY]: dmaReadBytes,
      [REASONS_CAPABILITY]: reasons === true ? true : undefined,
      [ADOPT_CAPABILITY]: adopt === true ? true : undefined,
      [ADOPTED_CAPABILITY]:
        adopted === undefined ? undefined : { mappings: adopted.mappings, fd_index: adopted.fdIndex, memories: adopted.memories },
    },
  });
}

/** @param json with its NUL */
function parseCapabilities(json: Uint8Array): Pick<VersionMessage, 'capabilities'> & OwnWords {
  if (json.length > MAX_JSON_BYTES) throw invalid(`${json.length} bytes of JSON, more than ${MAX_JSON_BYTES}`);
  if (json[json.length - 1] !== 0) throw invalid('its JSON does not end with a NUL');
  let parsed: unknown;
  let text = '';
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(json.subarray(0, json.length - 1));
    parsed = JSON.parse(text);
  } catch (cause) {
    // The parser quotes the surroundings of the mistake, which could be a part of a token.
    if (text.includes('token')) throw invalid('its JSON cannot be read');
    throw invalid(`its JSON cannot be read: ${(cause as Error).message}`, cause);
  }
  const capabilities = object(parsed, 'the JSON').capabilities ?? {};
  const given = object(capabilities, 'capabilities');
  const defaults = defaultCapabilities;
  const migration = given.migration === undefined ? null : object(given.migration, 'migration');
  const twin = given.twin_socket === undefined ? null : object(given.twin_socket, 'twin_socket');
  const maxBitmapSize = migration === null ? undefined : number(migration, 'max_bitmap_size', undefined, 0);
  const fdIndex = twin === null ? undefined : number(twin, 'fd_index', undefined, 0);
  const vfToken = token(given);
  const dmaReadBytes = number(given, DMA_READ_CAPABILITY, undefined, 4096);
  const adopt = boolean(given, ADOPT_CAPABILITY);
  const reasons = boolean(given, REASONS_CAPABILITY);
  const adopted = given[ADOPTED_CAPABILITY] === undefined ? null : object(given[ADOPTED_CAPABILITY], ADOPTED_CAPABILITY);
  const known: Capabilities = {
    maxMsgFds: number(given, 'max_msg_fds', defaults.maxMsgFds, 0, 1024),
    maxDataXferSize: number(given, 'max_data_xfer_size', defaults.maxDataXferSize, 1),
    maxDmaMaps: number(given, 'max_dma_maps', defaults.maxDmaMaps, 0),
    pgsizes: BigInt(number(given, 'pgsizes', Number(defaults.pgsizes), 1, 2 ** 64)),
    migration:
      migration === null
        ? null
        : { pgsize: number(migration, 'pgsize', 4096, 1), ...(maxBitmapSize === undefined ? {} : { maxBitmapSize }) },
    twinSocket: twin === null ? null : { supported: boolean(twin, 'supported'), ...(fdIndex === undefined ? {} : { fdIndex }) },
    writeMultiple: boolean(given, 'write_multiple'),
  };
  return {
    capabilities: known,
    ...(vfToken === null ? {} : { vfToken }),
    ...(dmaReadBytes === undefined ? {} : { dmaReadBytes }),
    ...(adopt ? { adopt } : {}),
    ...(reasons ? { reasons } : {}),
    ...(adopted === null
      ? {}
      : {
          adopted: {
            mappings: number(adopted, 'mappings', 0, 0),
            fdIndex: number(adopted, 'fd_index', 0, 0),
            memories: number(adopted, 'memories', 0, 0, 1024),
          },
        }),
  };
}

/** The message does not repeat the value: it may be a token with a typing error. */
function token(from: Record<string, unknown>): Uint8Array | null {
  const value = from[VF_TOKEN_CAPABILITY];
  if (value === undefined) return null;
  const bytes = typeof value === 'string' ? parseVfToken(value) : null;
  if (bytes === null) throw invalid(`${VF_TOKEN_CAPABILITY} is not a UUID`);
  return bytes;
}

function invalid(what: string, cause?: unknown): VfioError {
  return new VfioError('EINVAL', `VERSION: ${what}`, { cause });
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`${what} is not an object`);
  return value as Record<string, unknown>;
}

function number<T extends number | undefined>(
  from: Record<string, unknown>,
  key: string,
  missing: T,
  min: number,
  max = 2 ** 53,
): number | T {
  const value = from[key];
  if (value === undefined) return missing;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(`${key} is ${shown(value)}; it must be a whole number from ${min} to ${max}`);
  }
  return value;
}

function boolean(from: Record<string, unknown>, key: string): boolean {
  const value = from[key];
  if (value === undefined) return false;
  if (typeof value !== 'boolean') throw invalid(`${key} is ${shown(value)}; it must be true or false`);
  return value;
}

/**
 * A peer's value in a message for people. A nested value, which may have no end, is named by its
 * kind only.
 */
function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  const text = JSON.stringify(value);
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text;
}

const ASTERISK = 0x2a;
const shape = { structs: [Version], words: [dec(Version.major), '.', dec(Version.minor), ' ', text(Version.structSize)] };

export const version = message({
  name: 'VERSION',
  number: 1,
  from: 'client',
  size: { fixed: Version.structSize, data: MAX_JSON_BYTES },
  shown: showsAll,
  answer() {
    throw new VfioError('EINVAL', 'VERSION comes once');
  },
  encode: ({ major, minor, capabilities, vfToken, ...words }: VersionRequest) =>
    encodeVersion(major, minor, capabilities, vfToken ?? null, words),
  decodeReply: decodeVersion,
  command: shape,
  reply: shape,
  masked(payload) {
    const at = Version.structSize;
    if (payload.length - at > MAX_JSON_BYTES) return payload.slice().fill(ASTERISK, at);
    const json = new TextDecoder('latin1').decode(payload.subarray(at));
    const shown = jsonWithoutVfTokens(json);
    if (shown === json) return payload;
    const copy = payload.slice();
    for (let i = 0; i < shown.length; i++) copy[at + i] = shown.charCodeAt(i);
    return copy;
  },
});
