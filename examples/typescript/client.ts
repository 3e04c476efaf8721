// Asks a gateway from TypeScript, over gRPC:
//
//   npm install
//   make -C ../.. stubs TEMPLATE=buf.gen.ts.yaml OUT=examples/typescript/gen
//   npx tsc && node client.js receipt.png "What is the total?"
import { readFile } from "node:fs/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { AnswerService } from "./gen/askonce/v1/answer_pb.ts";
import { Source } from "./gen/askonce/v1/content_pb.ts";

const [path, text] = process.argv.slice(2);
const transport = createGrpcTransport({ baseUrl: process.env.ASKONCE_GATEWAY ?? "http://127.0.0.1:50051" });
const gateway = createClient(AnswerService, transport);

const response = await gateway.answer(
  {
    image: { source: { case: "content", value: await readFile(path) } },
    question: { text },
  },
  { timeoutMs: 60_000 },
);
const memory = response.provenance?.source === Source.CACHE;
console.log(response.answer?.text, memory ? "from memory" : "from the model", response.provenance?.reason);
