/** The conformance cases on Linux's VFIO as a program, for `vfio exec` and for guests. */
import { Answers } from './answers.ts';
import { deviceConformance } from './device-conformance.ts';
import { kernelSubject, placeOf } from './kernel-subject.ts';
import { answersLine } from './standalone/results.ts';
import { runCases } from './standalone/vitest.ts';

const place = placeOf(process.env);
const answers = new Answers();
deviceConformance(
  place.via,
  answers.of(() => kernelSubject(place)),
);
await runCases(process.argv[2]);
console.log(answersLine(answers.cases));
