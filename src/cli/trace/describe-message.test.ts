import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dma, samples, word } from '../../../tests/kit/vfio-user-samples.ts';
import { HeaderFlags } from '../../abi/vfio-user.ts';
import { Command, encodeMessage, messages } from '../../vfio-user/messages.ts';
import { describeMessage } from './describe-message.ts';

const { REPLY, NO_REPLY } = HeaderFlags;

describe('a message as a line', () => {
  it.each(samples)('$name: $words', ({ words, bytes }) => {
    expect(describeMessage(bytes).text).toBe(words);
  });

  it('there is a sample of each command and each reply', () => {
    const seen = new Set(
      samples.map(({ bytes }) => describeMessage(bytes)).map(({ command, kind }) => `${command} ${kind === 'posted' ? 'command' : kind}`),
    );
    const all = messages.flatMap(({ name }) => [`${name} command`, `${name} reply`]);
    expect(all.filter((each) => !seen.has(each))).toEqual([]);
  });

  it('knows commands, posted commands, replies and errors apart', () => {
    const kinds = [0, NO_REPLY, REPLY, REPLY | HeaderFlags.ERROR].map(
      (flags) => describeMessage(encodeMessage(1, 13, undefined, flags, 5)).kind,
    );
    expect(kinds).toEqual(['command', 'posted', 'reply', 'error']);
  });

  it('finds the data where QEMU puts it, after a count of 32 bits', () => {
    const reply = dma(0x4000n, 4n, word);
    // Four bytes earlier, and the message is as long as before.
    reply.copyWithin(12, 16);
    expect(describeMessage(encodeMessage(1, Command.DMA_READ, reply.subarray(0, 16), REPLY)).text).toBe('0x4000 = 0xa1b2c3d4');
  });

  it('shows any bytes in plain characters, and never throws', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20 }),
        fc.integer({ min: 0, max: 0x3f }),
        fc.uint8Array({ maxLength: 80 }),
        (command, flags, payload) => {
          const { text } = describeMessage(encodeMessage(1, command as Command, payload, flags));
          expect(text).toMatch(/^[\x20-\x7e…]*$/);
          describeMessage(payload);
        },
      ),
    );
  });
});
