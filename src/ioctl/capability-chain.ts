/**
 * Capability chains, which VFIO appends to an info structure, and the answer to a caller that left
 * no room for them.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_info_cap_add() and vfio_info_cap_shift()
 */

import { InfoCapHeader } from '../abi/vfio-structs.ts';
import type { Field } from '../base/struct.ts';
import type { UserBuffer } from './user-buffer.ts';

const ALIGN = 8;

export class CapabilityChain {
  readonly #parts: Uint8Array<ArrayBuffer>[] = [];
  #size = 0;

  /** Bytes of all capabilities, each rounded up to a multiple of 8. */
  get size(): number {
    return this.#size;
  }

  /**
   * @param size of the capability, header included
   * @param fill writes the bytes after the header
   */
  add(id: number, version: number, size: number, fill: (view: DataView) => void = () => {}): void {
    const bytes = new Uint8Array(Math.ceil(size / ALIGN) * ALIGN);
    const view = new DataView(bytes.buffer);
    fill(view);
    InfoCapHeader.encode(view, 0, { id, version, next: 0 });
    this.#parts.push(bytes);
    this.#size += bytes.length;
  }

  /**
   * The chain as it stands `at` bytes after the start of the info structure: `next` counts from
   * there.
   */
  at(at: number): Uint8Array {
    const out = new Uint8Array(this.#size);
    const view = new DataView(out.buffer);
    let offset = 0;
    this.#parts.forEach((part, i) => {
      out.set(part, offset);
      if (i + 1 < this.#parts.length) InfoCapHeader.next.set(view, offset, at + offset + part.length);
      offset += part.length;
    });
    return out;
  }
}

/** The fields that every info structure with capabilities has. */
export interface InfoLayout {
  readonly structSize: number;
  readonly argsz: Field<'u32'>;
  readonly flags: Field<'u32'>;
  readonly cap_offset: Field<'u32'>;
}

/**
 * Answer an info request: the structure, and the chain behind it when the caller left room for all
 * of it. Without that room, argsz becomes the size that is needed and cap_offset stays 0, which is
 * no error. The structure is written up to the size that the caller gave.
 *
 * @param info the filled structure, `layout.structSize` bytes, argsz as the caller gave it
 * @param capsFlag the bit that says that there are capabilities
 * @throws VfioError EFAULT
 */
export function answerInfo(
  user: UserBuffer,
  layout: InfoLayout,
  info: DataView<ArrayBuffer>,
  chain: CapabilityChain,
  capsFlag: number,
): void {
  const argsz = layout.argsz.get(info, 0);
  if (chain.size > 0) {
    layout.flags.set(info, 0, (layout.flags.get(info, 0) | capsFlag) >>> 0);
    if (argsz < layout.structSize + chain.size) {
      layout.argsz.set(info, 0, layout.structSize + chain.size);
      layout.cap_offset.set(info, 0, 0);
    } else {
      user.copyOut(layout.structSize, chain.at(layout.structSize));
      layout.cap_offset.set(info, 0, layout.structSize);
    }
  }
  user.copyOut(0, new Uint8Array(info.buffer, 0, Math.min(argsz, layout.structSize)));
}
