/**
 * The server's answer to VERSION: never more than the client asked for, and short enough for QEMU.
 */
import { MAX_FDS, QEMU_MAX_MSG_FDS, VERSION_MAJOR, VERSION_MINOR } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { MigrationCapability, VersionMessage } from '../messages/version.ts';

/** A server's offer to a client, before the server knows what the client asks for. */
export interface Offer {
  /** Descriptors that the server takes in one message. */
  readonly maxMsgFds: number;
  readonly maxDataXferSize: number;
  readonly maxDmaMaps: number;
  readonly pgsizes: bigint;
  /** Null until the device can be migrated. */
  readonly migration: MigrationCapability | null;
  /** The stream carries descriptors, so that there can be one. */
  readonly twinSocket: boolean;
}

/**
 * A server's reply to `client`: a minor version and capabilities that it can accept. QEMU refuses
 * more than 16 descriptors, more than 65535 mappings, and page sizes below 4096.
 *
 * @throws VfioError EINVAL for another major version, or page sizes of which the device has none
 */
export function negotiate(client: VersionMessage, offer: Offer): VersionMessage {
  checkMajor(client);
  const asked = client.capabilities;
  const pgsizes = offer.pgsizes & asked.pgsizes & ~4095n;
  if (pgsizes === 0n) throw invalid(`page sizes ${hex(asked.pgsizes)}: the device has ${hex(offer.pgsizes)}`);
  const twin = offer.twinSocket && asked.twinSocket?.supported === true && asked.maxMsgFds > 0;
  return {
    major: VERSION_MAJOR,
    minor: Math.min(client.minor, VERSION_MINOR),
    capabilities: {
      maxMsgFds: Math.min(offer.maxMsgFds, MAX_FDS, Math.max(asked.maxMsgFds, QEMU_MAX_MSG_FDS)),
      maxDataXferSize: offer.maxDataXferSize,
      maxDmaMaps: Math.min(offer.maxDmaMaps, asked.maxDmaMaps),
      pgsizes,
      migration: asked.migration === null ? null : offer.migration,
      twinSocket: twin ? { supported: true, fdIndex: 0 } : null,
      writeMultiple: asked.writeMultiple,
    },
  };
}

/**
 * Checks the version before the device is touched for such a client.
 * @throws VfioError EINVAL for another major version
 */
export function checkMajor({ major, minor }: VersionMessage): void {
  if (major !== VERSION_MAJOR)
    throw invalid(`version ${major}.${minor} is not one that this server speaks: ${VERSION_MAJOR}.${VERSION_MINOR}`);
}

function invalid(what: string): VfioError {
  return new VfioError('EINVAL', `VERSION: ${what}`);
}
