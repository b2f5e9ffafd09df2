/**
 * A client's commands after VERSION, each by its row in the table of messages: one call of the
 * device, and at most one reply.
 */
import { HEADER_BYTES, HeaderFlags } from '../../abi/vfio-user.ts';
import { VfioError } from '../../base/errno.ts';
import { closeAll, type FrameReader } from '../frames.ts';
import type { Answer } from '../messages/answer-context.ts';
import type { Message } from '../messages/message.ts';
import { commandName, messageOf } from '../messages.ts';
import type { Attachment } from './attachment.ts';
import type { ServerChannel } from './channel.ts';
import type { Replies } from './replies.ts';

export class Commands {
  readonly #channel: ServerChannel;
  readonly #replies: Replies;
  readonly #attachment: Attachment;
  readonly #maxReplyBytes: number;

  /** @param maxReplyBytes the most that the payload of a reply may take */
  constructor(channel: ServerChannel, replies: Replies, attachment: Attachment, maxReplyBytes: number) {
    this.#channel = channel;
    this.#replies = replies;
    this.#attachment = attachment;
    this.#maxReplyBytes = maxReplyBytes;
  }

  /**
   * Does the current message of the channel, and puts the reply into its writer.
   * @throws VfioError the errno to answer
   */
  carryOut(command: number, flags: number): void {
    const row = messageOf(command);
    if (row?.inPlace !== undefined) this.#region(row, flags);
    else this.#control(command, row, flags);
  }

  /** A register access. Allocates nothing. */
  #region(row: Message, flags: number): void {
    const { reader, writer } = this.#channel;
    const { regions, device } = this.#attachment;
    if (reader.hasFds) throw unexpectedFds(row.number);
    const size = row.inPlace!(regions, reader, writer);
    const held = device.heldAnswer === undefined ? null : device.heldAnswer();
    if ((flags & HeaderFlags.NO_REPLY) !== 0) return;
    if (held === null) writer.commit(size);
    else this.#replies.hold(held, size);
  }

  #control(command: number, row: Message | undefined, flags: number): void {
    const { reader } = this.#channel;
    const attachment = this.#attachment;
    if (reader.tooManyFds) throw new VfioError('EINVAL', `${commandName(command)}: too many descriptors`);
    const maxFds = row?.fds ?? 0;
    if (maxFds === 0 && reader.hasFds) throw unexpectedFds(command);
    const { start, size } = reader;
    const payload = reader.bytes.subarray(start + HEADER_BYTES, start + size);
    const fds = reader.takeFds();
    let held: Promise<void> | null = null;
    try {
      let answer: Answer;
      try {
        if (row?.answer === undefined) throw new VfioError('EINVAL', `${commandName(command)} is not a command for a server`);
        if (fds.length > maxFds) throw new VfioError('EINVAL', `${row.name} with ${fds.length} descriptors; at most ${maxFds}`);
        answer = row.answer(attachment, row.decode?.(payload, this.#maxReplyBytes), fds);
      } finally {
        // Also after a failure: a promise that stays with the device would hold up the next access.
        held = attachment.device.heldAnswer?.() ?? null;
      }
      const id = reader.view.getUint16(start, true);
      if ((flags & HeaderFlags.NO_REPLY) !== 0) closeAll(answer.fds ?? []);
      else if (held === null) this.#replies.put(id, command, answer.payload, answer.fds);
      else this.#replies.hold(held, this.#replies.fill(id, command, answer.payload));
    } finally {
      closeAll(fds);
    }
  }
}

/**
 * @throws VfioError EINVAL for the current message when it is too short or too long, or is no
 *   command
 */
export function checkWhole(reader: FrameReader, flags: number): void {
  if (reader.oversize || reader.broken) {
    const size = reader.view.getUint32(reader.start + 4, true);
    const what = commandName(reader.view.getUint16(reader.start + 2, true));
    throw new VfioError(
      'EINVAL',
      `${what}: a message of ${size} bytes, ${reader.broken ? 'less than a header' : 'more than its structure'}`,
    );
  }
  if ((flags & HeaderFlags.TYPE_MASK) !== HeaderFlags.COMMAND) throw new VfioError('EINVAL', `a message of type ${flags & 15}`);
}

export function unexpectedFds(command: number): VfioError {
  return new VfioError('EINVAL', `${commandName(command)} brings descriptors, which it does not take`);
}
