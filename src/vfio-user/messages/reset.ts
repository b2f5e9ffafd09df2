/** DEVICE_RESET: no payload, either way. */
import { EMPTY_ANSWER, message } from './message.ts';
import { DONE, SILENT } from './shape.ts';

export const reset = message({
  name: 'DEVICE_RESET',
  number: 13,
  from: 'client',
  size: { fixed: 0 },
  answer({ device }) {
    device.reset();
    return EMPTY_ANSWER;
  },
  command: SILENT,
  reply: DONE,
});
