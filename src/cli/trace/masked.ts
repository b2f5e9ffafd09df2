/**
 * A vfio-user message without the VF token that it may carry: in VERSION, where a client shows it, and in DEVICE_FEATURE, where the driver of a physical
 * function sets it. What was seen is shown, and kept in files, in this form alone.
 */

import { withoutVfTokens } from '../../abi/vf-token.ts';
import { Feature, FeatureFlags } from '../../abi/vfio.ts';
import { DeviceFeature } from '../../abi/vfio-structs.ts';
import { Command, HEADER_BYTES, Header, Version } from '../../abi/vfio-user.ts';
import { viewOf } from '../../vfio-user/messages.ts';

const ASTERISK = 0x2a;
/** No peer reads more than this; who sends more has nothing in it that is worth showing. */
const MAX_JSON_BYTES = 65536;

/** The same bytes when there is no token in them, else a copy of the same length with asterisks. Replies are masked as commands are. */
export function masked(message: Uint8Array): Uint8Array {
  if (message.length < HEADER_BYTES) return message;
  const view = viewOf(message);
  switch (Header.command.get(view, 0)) {
    case Command.VERSION:
      return maskedVersion(message, HEADER_BYTES + Version.structSize);
    case Command.DEVICE_FEATURE: {
      const at = HEADER_BYTES + DeviceFeature.structSize;
      if (message.length <= at) return message;
      const feature = DeviceFeature.flags.get(view, HEADER_BYTES) & FeatureFlags.MASK;
      return feature === Feature.PCI_VF_TOKEN ? message.slice().fill(ASTERISK, at) : message;
    }
    default:
      return message;
  }
}

function maskedVersion(message: Uint8Array, at: number): Uint8Array {
  if (message.length - at > MAX_JSON_BYTES) return message.slice().fill(ASTERISK, at);
  const json = new TextDecoder('latin1').decode(message.subarray(at));
  // Escaped characters could hide one from us and not from the server: nobody writes them, so all of it goes then.
  const text = json.includes('\\') ? '*'.repeat(json.length) : withoutVfTokens(json);
  if (text === json) return message;
  const copy = message.slice();
  for (let i = 0; i < text.length; i++) copy[at + i] = text.charCodeAt(i);
  return copy;
}
