"""The one catalogue of reasons: every stable word that says why a call failed, why an answer came from memory or did
not, and why an answer was not stored; each in English and Chinese.

`python -m askonce.reasons` prints the page that the documentation shows. Code uses the words themselves; a test
refuses a word that is raised and not listed here, and one that is listed and never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means, and for an error what to do next."""

    english: str
    chinese: str


def _table(text: str) -> Mapping[str, Meaning]:
    """Reads pairs of lines: a reason with its English meaning, and the Chinese one."""
    found: dict[str, Meaning] = {}
    lines = iter(text.strip().splitlines())
    for line in lines:
        reason, english = (part.strip() for part in line.split(" | "))
        if reason in found:
            raise ValueError(f"{reason} is listed twice")
        found[reason] = Meaning(english, next(lines).strip())
    return found


ERRORS: Final[Mapping[str, Mapping[str, Meaning]]] = {
    "INVALID_ARGUMENT": _table("""
        ANSWER_INVALID | An imported answer is malformed: export it again.
            导入的答案格式不对，请重新导出。
        BODY_INVALID | The body is not the JSON that the route expects.
            请求体不是该路由所要的 JSON。
        BODY_TOO_LARGE | Send a smaller body; the limit is in the metadata.
            请求体过大，上限见元数据。
        CHAT_TEMPLATE_UNSUPPORTED | The model's chat template can't be used; the operator must choose another model.
            模型的对话模板无法使用，请运维更换模型。
        CONDITIONS_CONFLICT | Name one thing to purge by, or fewer at a time.
            清除条件互相冲突，请减少条件。
        CONDITIONS_MISSING | Say what to purge.
            请说明要清除什么。
        CONTENT_ENCODING_UNSUPPORTED | Send the body as it is, not compressed.
            请求体不要压缩。
        CONTENT_TYPE_UNSUPPORTED | Send JSON, with the header content-type: application/json.
            请发送 JSON，并写明 content-type: application/json。
        CURRENCY_INVALID | Write a currency as three letters, such as USD.
            货币请写三个字母，如 CNY。
        DIGEST_INVALID | A digest is the 32 bytes of a SHA-256.
            摘要须为 SHA-256 的 32 字节。
        DIGEST_MISMATCH | The digest is not the image's: compute it over the bytes that are sent.
            摘要与图片不符，请按所发送的字节计算。
        ENUM_UNKNOWN | The value is not one of the field's.
            该字段没有这个取值。
        FIELDS_CONFLICT | Two fields contradict each other: send one.
            两个字段互相矛盾，请只留一个。
        FIELD_UNKNOWN | There is no such field: look at its spelling.
            没有这个字段，请检查拼写。
        FIELD_UNSUPPORTED | The field can't be honoured here or by the hosted engine: leave it out.
            此处或所用引擎不支持该字段，请去掉。
        FORMAT_UNKNOWN | The export was written in a format that this version does not read.
            该导出的格式本版本无法读取。
        HASH_INVALID | An imported perceptual hash is malformed: export it again.
            导入的感知哈希格式不对，请重新导出。
        HEADER_MISSING | An import begins with its header.
            导入须以头部开始。
        HISTORY_TOO_LONG | Send fewer or shorter earlier turns.
            历史对话过长，请缩短。
        IMAGE_ASPECT_UNSUPPORTED | One side is too many times the other: crop the image.
            图片长宽比过大，请裁剪。
        IMAGE_EMPTY | The image has no bytes.
            图片为空。
        IMAGE_ENCODING | The data URI is not valid base64.
            data URI 不是合法的 base64。
        IMAGES_TOO_MANY | Send fewer images; the pages of a PDF file count one by one.
            图片过多，请减少；PDF 按页计数。
        IMAGE_REQUIRED | Send an image with the question.
            请随问题附上图片。
        IMAGE_TOO_COMPLEX | Save the image anew: it holds too many scans, chunks, frames or metadata, or takes too long.
            图片内部结构过于复杂（扫描、块、帧或元数据过多，或解码过慢），请重新保存。
        IMAGE_TOO_LARGE | Send a file of fewer bytes; the limit is in the metadata.
            图片文件过大，上限见元数据。
        IMAGE_TOO_MANY_PIXELS | Scale the image down; the limit is in the metadata.
            图片像素过多，请缩小，上限见元数据。
        IMAGE_TOO_SMALL | Send an image with longer sides.
            图片边长过小。
        IMAGE_TRUNCATED | The file ends too early: send it again.
            图片文件不完整，请重新发送。
        IMAGE_TYPE_UNSUPPORTED | Send JPEG, PNG, WebP or PDF.
            只支持 JPEG、PNG、WebP、PDF。
        IMAGE_UNREADABLE | The file can't be decoded: save it anew.
            图片无法解码，请重新保存。
        IMAGE_UNSUPPORTED | The model can't take this image: scale it.
            模型无法处理该图片，请缩放。
        JOB_ID_INVALID | Write a job's id with a-z, 0-9 and "-".
            任务编号只能用 a-z、0-9 和 "-"。
        LABEL_MISSING | Send something to learn from.
            没有可学习的内容。
        LANGUAGE_INVALID | Write a language as a BCP 47 code, such as zh-CN.
            语言请写 BCP 47 代码，如 zh-CN。
        LIMITS_NOT_TIGHTER | A request may only tighten what its policy allows.
            请求只能收紧策略，不能放宽。
        MAX_PIXELS_OUT_OF_RANGE | max_pixels must be at least 1.
            max_pixels 至少为 1。
        MAX_TOKENS_OUT_OF_RANGE | Ask for a number of tokens within the engine's limit.
            max_tokens 超出引擎上限。
        MESSAGE_INVALID | The bytes are not this method's message: compile the protos again.
            无法解析请求消息，请重新编译 proto。
        MESSAGE_TOO_LARGE | Send a smaller message; the limit is in the metadata.
            请求消息过大，上限见元数据。
        MODEL_MISSING | Name the model to purge by.
            请写明要清除的模型。
        NAME_INVALID | The resource name has another form; the message says which.
            资源名格式不对，见错误信息。
        OUT_OF_RANGE | The number is outside the field's range, which is in the message.
            数值超出范围，见错误信息。
        PAGE_TOKEN_INVALID | Begin the list again without a page token.
            分页标记无效，请从头开始。
        PAIRS_OUT_OF_RANGE | Send fewer pairs of questions at a time.
            问题对数量超出范围。
        PARAMETER_OUT_OF_RANGE | A generation parameter is outside its range.
            生成参数超出范围。
        PDF_ENCRYPTED | The PDF file is locked with a password: send it without one.
            PDF 文件有密码，请去掉密码后发送。
        PDF_UNREADABLE | The PDF file can't be read: save it anew, or send its pages as images.
            PDF 文件无法读取，请重新保存，或将页面作为图片发送。
        PIECE_UNEXPECTED | The stream of an import is out of order.
            导入流的顺序不对。
        POLICY_INVALID | A field of the policy is outside its range, which is in the message.
            策略字段超出范围，见错误信息。
        PROMPT_INJECTION | The question gives the model orders: ask about the image instead.
            问题像是在给模型下指令，请只询问图片内容。
        PROMPT_UNSUPPORTED | The prompt can't be put together for this model.
            无法为该模型组装提示词。
        QUESTION_CONTROL_CHARACTERS | Remove the control characters from the question.
            请去掉问题中的控制字符。
        QUESTION_CONTROL_TOKENS | The question holds the model's control tokens: remove them.
            问题含有模型控制符，请去掉。
        QUESTION_EMPTY | Write a question.
            问题为空。
        QUESTION_TOO_LONG | Shorten the question; the limit is in the metadata.
            问题过长，上限见元数据。
        RESPONSE_FORMAT_INVALID | The wanted response format is not one that JSON Schema allows.
            所要的返回格式无效。
        REVISION_MISSING | Name the revision to go back to.
            请写明要回到的版本。
        ROLE_UNSUPPORTED | Use the roles system, user and assistant.
            只支持 system、user、assistant。
        SCHEMA_TOO_LONG | Shorten the JSON schema; the limit is in the metadata.
            JSON schema 过长，上限见元数据。
        SIZES_OUT_OF_RANGE | Send fewer image sizes, within the limits.
            图片尺寸数量超出范围。
        STOP_INVALID | A stop string is empty or too long.
            停止串为空或过长。
        STOP_OUT_OF_RANGE | Send fewer or shorter stop strings.
            停止串过多或过长。
        STOP_TOO_MANY | Send fewer stop strings.
            停止串过多。
        TAGS_TOO_MANY | Send fewer tags.
            标签过多。
        TAG_INVALID | A tag is empty, too long, or holds control characters.
            标签为空、过长或含控制符。
        TARGET_MISSING | Say what to forget.
            请说明要忘记什么。
        TEMPERATURE_OUT_OF_RANGE | Temperature goes from 0 to 2.
            temperature 应在 0 到 2 之间。
        TENANT_INVALID | Write a tenant as tenants/ and 1 to 63 of a-z, 0-9 and "-".
            租户请写 tenants/ 加 1 至 63 个 a-z、0-9 或 "-"。
        TERM_FORBIDDEN | The question holds a term that this deployment refuses.
            问题含有本部署禁止的词。
        TEXT_CONTROL_CHARACTERS | Remove the control characters.
            请去掉控制字符。
        TEXT_INVISIBLE_CHARACTERS | Remove the invisible characters: what can't be seen is not asked.
            请去掉不可见字符。
        TEXT_TOO_LONG | Shorten the text; the limit is in the metadata.
            文字过长，上限见元数据。
        TICKET_EXPIRED | The ticket has expired: look the request up again.
            凭据已过期，请重新查询。
        TICKET_FOREIGN | The ticket was issued to another tenant.
            凭据属于其他租户。
        TICKET_FORGED | The ticket was not issued here, or was changed.
            凭据不是由此签发，或已被改动。
        TURN_CONTROL_CHARACTERS | Remove the control characters from the earlier turn.
            请去掉历史对话中的控制字符。
        TURN_EMPTY | An earlier turn has no text.
            历史对话中有空内容。
        TURN_TOO_LONG | Shorten the earlier turn; the limit is in the metadata.
            历史对话中有内容过长，上限见元数据。
        TOO_MANY_TOKENS | Shorten the text or the image: together they exceed the model's context.
            内容超过模型上下文长度，请缩短。
        TOP_P_OUT_OF_RANGE | top_p is above 0 and at most 1.
            top_p 应大于 0 且不超过 1。
        UPSTREAM_REFUSED | The model server refused this request.
            模型服务器拒绝了该请求。
        URI_ADDRESS_FORBIDDEN | The address lies in a private network.
            地址位于内部网络，禁止访问。
        URI_ENCODED | The server sent the image in an encoding that is not accepted.
            服务器返回了不支持的内容编码。
        URI_INVALID | The address is malformed.
            地址格式不对。
        URI_NOT_ALLOWED | The host is not on this deployment's list.
            主机不在允许名单内。
        URI_REDIRECTED_TOO_OFTEN | The address redirects too often.
            重定向次数过多。
        URI_SCHEME_UNSUPPORTED | Use https.
            请使用 https。
        URI_STATUS | The server of the image did not answer with success.
            图片服务器未返回成功状态。
        VECTOR_INVALID | An imported vector has another length, or is not finite.
            导入的向量长度不对或含非法数值。
        VERDICT_MISSING | Say whether the answer was right or wrong.
            请说明答案对还是错。
    """),
    "UNAUTHENTICATED": _table("""
        CREDENTIALS_MISSING | Send an API key or a token.
            请提供 API 密钥或令牌。
        CREDENTIALS_UNKNOWN | The key is not known here.
            密钥未知。
        TOKEN_EXPIRED | Get a new token.
            令牌已过期，请重新获取。
        TOKEN_INVALID | The token is not signed for this service.
            令牌签名或内容无效。
    """),
    "PERMISSION_DENIED": _table("""
        HOST_NOT_ALLOWED | The HTTP edge does not go by this name: have the operator list it in allowed_hosts.
            HTTP 入口不认这个主机名，请运维列入 allowed_hosts。
        ORIGIN_NOT_ALLOWED | Pages of this origin may not ask: have the operator list it in allowed_origins.
            不允许该来源的网页调用，请运维列入 allowed_origins。
        ROLE_MISSING | The key lacks the role that this call needs; the metadata names those that would do.
            该密钥没有所需角色，可用角色见元数据。
        TENANT_MISMATCH | The key belongs to another tenant: leave parent empty or name your own.
            密钥属于其他租户，请留空或写自己的租户。
    """),
    "NOT_FOUND": _table("""
        DECISION_UNKNOWN | The decision is not in the ledger, or too old.
            账本中没有该决定，或已过期。
        JOB_UNKNOWN | There is no such job, or it has been forgotten.
            没有该任务，或已被清除。
        MODEL_NOT_FOUND | Ask for the model that /v1/models lists.
            请使用 /v1/models 列出的模型。
        NOT_CACHED | Memory has no answer; ask with another cache mode.
            缓存中没有答案，请换一种缓存模式。
        OPERATION_UNKNOWN | There is no such operation.
            没有该操作。
        REPORT_UNKNOWN | There is no such report, or it is past its time.
            没有该报告，或已过期。
        ROUTE_UNKNOWN | The HTTP edge has no such path; /docs lists what there is.
            HTTP 入口没有该路径，见 /docs。
        REVISION_UNKNOWN | The policy has no such revision.
            策略没有该版本。
    """),
    "FAILED_PRECONDITION": _table("""
        ENCODER_CHANGED | The encoder has changed since: look the request up again.
            编码器已更换，请重新查询。
    """),
    "ABORTED": _table("""
        CANCELLED | The work was cancelled.
            任务已取消。
        POLICY_CHANGED | Somebody changed the policy in between: read it again and retry.
            策略已被他人修改，请重新读取后再试。
        REPORT_DELETED | The report was deleted while it was made.
            报告在生成过程中被删除。
    """),
    "RESOURCE_EXHAUSTED": _table("""
        AUDIT_BUSY | A report is being made already: wait for it.
            已有报告正在生成，请稍候。
        DEDUP_BUSY | Too many images or questions wait to be looked at: the gateway asks the model.
            等待处理的图片或问题过多，网关会直接询问模型。
        ENGINE_BUSY | The engine is full: retry after the stated delay.
            引擎已满，请按提示的时间重试。
        FEEDBACK_LIMIT | Too much feedback at once: retry in a minute.
            反馈过于频繁，请一分钟后再试。
        GATEWAY_BUSY | Too many requests are under way: retry after the stated delay.
            在途请求过多，请按提示的时间重试。
        JOBS_FULL | Too many jobs wait: retry later.
            排队任务已满，请稍后再试。
        OUT_OF_MEMORY | The request needs more memory than is free: retry with a smaller image.
            显存不足，请缩小图片后重试。
        QUEUE_FULL | Too many requests wait for the model: retry after the stated delay.
            等待模型的请求过多，请按提示的时间重试。
        QUEUE_TOO_SLOW | No place came free in time: retry after the stated delay.
            未能及时排上，请按提示的时间重试。
        RATE_LIMITED | The tenant's rate is used up: retry after the stated delay.
            租户速率已用完，请按提示的时间重试。
        SERVER_BUSY | Too many bytes are under way: retry after the stated delay.
            在途数据过多，请按提示的时间重试。
        UPSTREAM_RATE_LIMITED | The model server is busy: retry after the stated delay.
            模型服务器繁忙，请按提示的时间重试。
    """),
    "UNAVAILABLE": _table("""
        ABANDONED | The request that generated this answer was given up: retry.
            生成该答案的请求已放弃，请重试。
        DECODER_UNAVAILABLE | The image decoder is starting again: retry after the stated delay.
            图像解码器正在重启，请按提示的时间重试。
        DEDUP_UNAVAILABLE | The dedup service does not answer: retry.
            去重服务无响应，请重试。
        ENGINE_STOPPED | The engine is stopping: retry elsewhere.
            引擎正在停止，请换一处重试。
        ENGINE_STUCK | The model does not respond: retry later.
            模型无响应，请稍后再试。
        GENERATION_INCOMPLETE | The model's answer broke off: retry.
            模型的回答中断，请重试。
        INFERENCE_UNAVAILABLE | The model service does not answer: retry; stored answers are still served.
            模型服务无响应，请重试；已存答案仍可返回。
        JOBS_UNAVAILABLE | The place where jobs are kept does not answer: retry.
            任务存储无响应，请重试。
        STORE_READ_ONLY | The store's disk is full or failing: answers are served, and stored again once there is room.
            存储磁盘已满或故障：答案照常返回，恢复后继续存储。
        LEDGER_UNAVAILABLE | The ledger can't be reached: retry.
            账本暂不可用，请重试。
        MEMORY_UNAVAILABLE | The store can't be reached: retry.
            存储暂不可用，请重试。
        MODEL_UNAVAILABLE | The model can't be loaded; the operator must act.
            模型无法加载，请运维处理。
        READER_UNAVAILABLE | The reader is not running.
            阅读引擎未运行。
        UPSTREAM_CIRCUIT_OPEN | No model server takes requests now: retry after the stated delay.
            暂无可用的模型服务器，请按提示的时间重试。
        UPSTREAM_FAILED | The model server failed: retry.
            模型服务器出错，请重试。
        UPSTREAM_MALFORMED | The model server's reply can't be understood.
            无法理解模型服务器的回复。
        UPSTREAM_LOST_IMAGE | The model server drops images; the operator must act.
            模型服务丢失了图片，请运维处理。
        UPSTREAM_MISCONFIGURED | The model server refuses every request; the operator must act.
            模型服务拒绝所有请求，请运维处理。
        UPSTREAM_RESET | The connection to the model server broke: retry.
            与模型服务器的连接中断，请重试。
        UPSTREAM_TIMEOUT | The model server went silent: retry.
            模型服务器超时，请重试。
        UPSTREAM_UNAUTHORISED | The model server refused our key; the operator must act.
            模型服务器拒绝了我们的密钥，请运维处理。
        UPSTREAM_UNREACHABLE | The model server can't be reached: retry.
            无法连接模型服务器，请重试。
        URI_UNREACHABLE | The server of the image can't be reached.
            无法连接图片服务器。
    """),
    "DEADLINE_EXCEEDED": _table("""
        BODY_TOO_SLOW | The request's body took too long: send it faster.
            请求体传输过慢，请加快发送。
        DEADLINE_EXCEEDED | Allow more time, or ask again.
            请放宽时限，或再次提问。
        URI_TIMEOUT | The server of the image was too slow.
            图片服务器过慢。
    """),
    "UNIMPLEMENTED": _table("""
        METHOD_UNKNOWN | The path takes other HTTP methods; the metadata says which.
            该路径不支持此 HTTP 方法，可用方法见元数据。
        JOBS_DISABLED | This gateway keeps no jobs: ask and wait.
            本网关未启用任务队列，请直接提问。
    """),
    "INTERNAL": _table("""
        ENGINE_FAILED | The model failed on this request; please report the request id.
            模型处理该请求时出错，请报告请求编号。
        INTERNAL | Something went wrong on our side; please report the request id.
            内部错误，请报告请求编号。
        JUDGE_INCOMPLETE | The judge gave another number of verdicts than it was asked for.
            评判模型返回的结论数量不符。
    """),
}
"""Reasons of errors, by gRPC status."""

TOOLS: Final = _table("""
    AUDIT_FAILED | The audit's process failed; its log says why.
        审计进程失败，原因见日志。
    DISK_FULL | The disk is full; nothing was left behind.
        磁盘已满，未留下残余文件。
    ENCODER_LOAD_FAILED | The encoder's weights can't be loaded from where the settings say.
        无法从设置所指位置加载编码器权重。
    ENCODER_NOT_INSTALLED | Install the extra that the message names.
        请安装提示中的可选依赖。
    ENCODER_UNKNOWN | Name one of the encoders that the message lists.
        请使用提示中列出的编码器。
    LEDGER_ABSENT | There is no ledger at this address.
        该地址没有账本。
    LEDGER_DAMAGED | The ledger is damaged or half copied.
        账本损坏或复制不完整。
    LEDGER_INVALID | The ledger's address is malformed.
        账本地址格式不对。
    LEDGER_NEWER | A later version wrote the ledger: use that one.
        账本由更新的版本写入，请使用新版本。
    LEDGER_UNWRITABLE | The ledger can't be written; it may be read-only.
        账本无法写入，是否只读？
    OUT_NOT_OURS | What stands at the output's place is no earlier report.
        输出位置已有其他文件。
    OUT_UNWRITABLE | The output can't be written.
        无法写入输出。
""")
"""Reasons that only the command line and start-up give."""

OUTCOMES: Final = _table("""
    EXACT | The same image and the same question.
        图片相同，问题相同。
    NORMALISED | The same question but for what never matters (width, white space, a sentence's end).
        问题仅在无关紧要的写法上不同。
    KNOWN | The two questions are known to ask the same.
        已知两个问题问的是同一件事。
    JUDGED | The judge said that the two questions ask the same.
        评判模型认为两个问题相同。
    SCORED | The questions' calibrated score is high enough.
        问题的校准分数足够高。
    COALESCED | An equal request was being answered; its answer was shared.
        相同请求正在回答，共用其答案。
    IMAGE_UNKNOWN | No stored image came near.
        没有相近的已存图片。
    IMAGE_UNSURE | The check of the images was not sure.
        图片核对无法确定。
    IMAGE_LOOKALIKE | The images look alike and differ.
        图片相似但内容不同。
    IMAGE_BELOW_FLOOR | The images' score is below the request's floor.
        图片分数低于请求的下限。
    IMAGE_BELOW_THRESHOLD | The images' score is below the threshold.
        图片分数低于阈值。
    QUESTION_UNKNOWN | No stored question of this image came near.
        该图片没有相近的已存问题。
    QUESTION_UNSURE | The questions' score is not high enough; labels or the judge can settle the pair.
        问题分数不够高，需标注或评判。
    QUESTION_VETOED | The questions differ in what they ask for.
        问题所问内容不同，禁止复用。
    QUESTION_DIFFERENT | The questions are known to differ.
        已知两个问题不同。
    QUESTION_BELOW_FLOOR | The questions' score is below the request's floor.
        问题分数低于请求的下限。
    QUESTION_BELOW_THRESHOLD | The questions' score is below the threshold.
        问题分数低于阈值。
    ENCODER_UNAVAILABLE | The question encoder gave no answer this time; exact repeats are served.
        问题编码器暂不可用，完全相同的重复仍可命中。
    UNREADABLE_BY_ENCODER | The question encoder can't read this script.
        问题编码器无法读取该文字。
    NOT_EXACT | The request takes exact repeats only.
        请求只接受完全相同的重复。
    CROSS_LANGUAGE | The questions are in two languages, and the policy forbids it.
        问题语言不同，策略不允许。
    ASKS_ABOUT_NOW | The question is about this moment or the asker's place: its answer is used once.
        问题与当前时刻或提问者所在地有关，答案不复用。
    SAMPLED | The answer is drawn at random, and the policy does not use such answers again.
        答案为随机采样，策略不复用。
    MODE_OFF | The policy's mode is OFF: nothing is reused.
        策略为 OFF，不复用。
    SHADOW | The policy's mode is SHADOW: a hit was recorded and withheld.
        策略为 SHADOW，命中只记录不返回。
    RISK_OVER_BUDGET | The estimated risk is more than the error budget allows.
        估计风险超出错误预算。
    BUDGET_SPENT | The tenant's error budget is used up for now.
        租户的错误预算暂已用完。
    STRATUM_CLOSED | Labels showed that this kind of evidence breaks the budget.
        标注显示此类证据会突破预算。
    DEDUP_UNAVAILABLE | Memory was down or late; the model was asked.
        缓存不可用，已询问模型。
""")
"""Reasons of hits and misses, as provenance gives them."""

STORING: Final = _table("""
    STORED | The answer was stored.
        答案已存储。
    ALREADY_STORED | The same answer was stored already.
        相同答案已存在。
    ANSWER_CUT_OFF | The answer was cut off.
        答案被截断。
    ANSWER_EMPTY | The answer is empty.
        答案为空。
    ANSWER_FILTERED | The answer was held back by a filter.
        答案被过滤。
    ANSWER_UNANSWERABLE | The model says that it can't answer.
        模型表示无法回答。
    ANSWER_OUTDATED | The day that the question was about has ended.
        问题所问的那一天已结束。
    ANSWER_UNFINISHED | It is not known that the answer is whole.
        无法确认答案完整。
    COMPARE_ONLY | The answer was only compared with the stored one.
        答案仅用于比较。
    ENCODER_CHANGED | The encoder has changed since the look-up.
        查询后编码器已更换。
    POLICY_KEEPS_NOTHING | The policy stores nothing.
        策略不存储。
""")
"""Reasons why an answer was stored or not."""


def errors() -> Mapping[str, Meaning]:
    """Every reason that an error may carry, of services and of tools."""
    return {reason: meaning for table in (*ERRORS.values(), TOOLS) for reason, meaning in table.items()}


def explain(reason: str, language: str = "en") -> str:
    """One sentence on a reason, in English or, for "zh", in Chinese; the reason itself when it is not listed."""
    for table in (OUTCOMES, STORING, errors()):
        if (meaning := table.get(reason)) is not None:
            return meaning.chinese if language.startswith("zh") else meaning.english
    return reason


def as_markdown() -> str:
    """The catalogue as a page of the documentation."""
    lines = [
        "# Reasons",
        "",
        "Written by `python -m askonce.reasons`. An error carries one of the first as `ErrorInfo.reason`, provenance",
        "one of the second; what becomes of a new answer is one of the third. 中文说明见最后一列。",
        "",
        "## Errors",
    ]
    for status, table in ERRORS.items():
        lines += ["", f"### `{status}`", "", *_rows(table)]
    lines += ["", "### Only on the command line and at start-up", "", *_rows(TOOLS)]
    lines += ["", "## Why an answer came from memory, or did not", "", *_rows(OUTCOMES)]
    lines += ["", "## Why an answer was stored, or was not", "", *_rows(STORING), ""]
    return "\n".join(lines)


def _rows(table: Mapping[str, Meaning]) -> list[str]:
    rows = [f"| `{reason}` | {meaning.english} | {meaning.chinese} |" for reason, meaning in table.items()]
    return ["| reason | meaning, and what to do | 含义与处理 |", "|---|---|---|", *rows]


def main() -> None:
    """Prints the page."""
    import sys

    sys.stdout.write(as_markdown())


if __name__ == "__main__":
    main()
