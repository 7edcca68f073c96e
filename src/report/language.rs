//! Every text that is shown, in every language.

use super::chinese::CHINESE;
use crate::Message;

/// A language of pictures and messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

/// Names in a list for a line of text, at most; more are counted.
const MOST_LISTED: usize = 4;

impl Lang {
    /// A list of names on a line, the first few where there are many.
    pub fn list<S: AsRef<str>>(self, names: &[S]) -> String {
        let join = |names: &[S]| names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
        if names.len() <= MOST_LISTED + 1 {
            return join(names);
        }
        fill(self.texts().and_more, [&join(&names[..MOST_LISTED]), &(names.len() - MOST_LISTED).to_string()])
    }

    /// The texts in this language.
    pub fn texts(self) -> &'static Texts {
        match self {
            Lang::En => &EN,
            Lang::Zh => &ZH,
        }
    }

    /// A message in this language.
    pub fn message(self, message: &Message) -> String {
        message.text(&|english| self.translate(english))
    }

    /// A help text or a message's sentence in this language; the English itself where there is no other.
    pub fn translate(self, english: &str) -> &str {
        let translated = || CHINESE.iter().find(|(key, _)| *key == english).map(|(_, chinese)| *chinese);
        if self == Lang::En { english } else { translated().unwrap_or(english) }
    }
}

/// Makes [`Texts`] and its translations from one table, so that no text can lack a translation.
macro_rules! texts {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// The texts of one language. `{}` stands for what the caller fills in with [`fill`].
        #[derive(Debug)]
        #[allow(missing_docs)]
        pub struct Texts { $(pub $name: &'static str,)* }

        static EN: Texts = Texts { $($name: $en,)* };
        static ZH: Texts = Texts { $($name: $zh,)* };

        impl Texts {
            /// All texts of the language.
            pub fn all(&self) -> impl Iterator<Item = &'static str> + use<> {
                [$(self.$name,)*].into_iter()
            }
        }
    };
}

impl Texts {
    /// Name of a part of the windows: of `test`, else of the validation.
    pub fn part(&self, part: &str) -> &'static str {
        if part == "test" { self.test } else { self.validation }
    }
}

texts! {
    versus: " vs ", "、";
    title: "{}: {}, one step ahead", "{}：{} 向前一步预测";
    source: "Source: {}", "数据来源：{}";
    validated_on: "validated on {} to {}", "验证区间：{} 至 {}";
    synthetic: "SYNTHETIC DATA", "合成数据";
    actual: "actual", "实际值";
    persistence: "persistence (last value)", "持续性基准（上一个值）";
    training: "training", "训练";
    validation: "validation", "验证";
    test: "test", "测试";
    loss: "Loss per epoch, against persistence", "每轮损失（相对持续性基准）";
    epoch: "epoch", "训练轮次";
    against_persistence: "Validation error against persistence", "相对持续性基准的验证误差";
    mse_ratio: "MSE / MSE of persistence; below 1 is better", "均方误差 / 持续性基准的均方误差；小于 1 更好";
    predictions: "Predictions over actual values", "预测值与实际值";
    last_rows: "The last {} rows, enlarged", "最后 {} 行放大";
    change: "Predicted change: prediction minus last value", "预测变化：预测值减去上一个值";
    change_axis: "change", "变化";
    settings: "window {}  ·  hidden {}  ·  batch {}  ·  {} epochs", "窗口 {}  ·  隐藏 {}  ·  批量 {}  ·  {} 轮";
    date: "date", "日期";
    mse: "MSE in scaled units", "均方误差（缩放后单位）";
    errors_over_seeds: "Errors over {} seeds: mean and standard deviation", "{} 个随机种子的误差：均值与标准差";
    error_by_step: "Error by steps ahead", "各预测步的误差";
    steps_ahead: "steps ahead", "预测步数";
    curves: "Loss per epoch: training (dashed), validation", "每轮损失：训练（虚线）、验证";
    beyond_axis: "persistence (last value): {}, beyond the axis", "持续性基准（上一个值）：{}，超出坐标轴";
    and_more: "{} and {} more", "{} 等（另有 {} 个）";
    panels_shown: "{} of {} targets drawn", "只画出 {} 个目标，共 {} 个";
    origins_shown: "{} of {} origins drawn", "只画出 {} 个起点，共 {} 个";
    ahead: "window {}  ·  {} steps ahead", "窗口 {}  ·  向前 {} 步";
    origin: "{}: forecasts from {} on", "{}：自 {} 起的预测";
    against: "MSE {}, {} times that of persistence", "均方误差 {}，为持续性基准的 {} 倍";
    error_by_origin: "Error at each origin, against persistence", "各起点的误差（相对持续性基准）";
    forecast_title: "{}: the next {} rows", "{}：未来 {} 行";
    band: "band: levels {} to {}", "区间：分位数 {} 至 {}";
    recursive: "beyond {} rows from the model's own forecasts", "{} 行之后由模型自身的预测递推";
    to_persistence: "MSE / persistence", "MSE / 持续性";
    target: "target", "目标";
    mse_ahead: "MSE {} ahead", "第 {} 步 MSE";
    rmse_in_unit: "RMSE in its unit", "RMSE（原单位）";
    mae_in_unit: "MAE in its unit", "MAE（原单位）";
    lost: "{} is worse than persistence (the last value again) on these windows: {} times its MSE.",
        "{} 在这些窗口上不如持续性基准（重复上一个值）：其均方误差的 {} 倍。";
    won: "{} is better than persistence on {} of {} series.", "{} 优于持续性基准的序列：{} 个（共 {} 个）。";
    random_walk: "Neither a baseline nor a model is better than persistence by 2 %: these series are close to a random walk, on which nothing can win by much.",
        "没有基准或模型比持续性好 2 %：这些序列接近随机游走，很难明显胜出。";
    unit_of_one: "In scaled units: 1 is {} of {}.", "缩放后单位：1 即 {}（{}）。";
    units_of_many: "In scaled units; each column of the {} series has a scaler of its own. sMAPE is in the columns' units.",
        "缩放后单位，{} 个序列的每一列各自缩放；sMAPE 按原单位计算。";
    coverage: "{}: {} % of the actual values lie at or below the forecast of level {}; its pinball loss is {}.",
        "{}：{} % 的实际值不高于分位数 {} 的预测；其 pinball 损失为 {}。";
    data: "data: {}", "数据：{}";
    left_out: "{} of {} series have no window and are left out: {}", "{} 个序列（共 {} 个）没有窗口，已略去：{}";
    device: "device: {}{}", "设备：{}{}";
    no_hardware: " (no hardware GPU was found)", "（未找到硬件 GPU）";
    software: "; a software adapter: the CPU does the work, so expect less speed than from a real GPU", "；软件适配器：由 CPU 计算，不会有真实 GPU 的速度";
    kernels: "; kernels: table {}", "；内核：表 {}";
    checkpoint_of: "checkpoint: {} with window {} and hidden {}, trained on {}", "检查点：{}，窗口 {}，隐藏 {}，训练数据：{}";
    first_step: "The first training step was done {} s after the start.", "启动后 {} 秒完成第一个训练步。";
    device_column: "device", "设备";
    first_step_column: "first step s", "第一步（秒）";
    ms_a_step: "ms a step", "每步毫秒";
    cpu_ms_a_step: "CPU ms a step", "CPU 每步毫秒";
    cpu_to_device: "CPU / device", "CPU / 设备";
    loss_difference: "largest loss difference", "损失的最大差异";
    round_title: "round {} of {}, trial {}", "第 {} 轮，共 {} 轮，试验 {}";
    trial_line: "round {}  trial {}  epochs {}  validation MSE {}  {}", "第 {} 轮  试验 {}  {} 个训练轮次  验证 MSE {}  {}";
    trial: "trial", "试验";
    validation_mse: "validation MSE", "验证 MSE";
    options: "options", "选项";
    last_round: "The last round, epochs {}:", "最后一轮，{} 个训练轮次：";
    trust: "The best trial was chosen on validation windows: score it on test windows before trusting its figure.",
        "最佳试验是按验证窗口选出的：采信其数值之前，请在测试窗口上评分。";
    trials: "trials: {}", "试验：{}";
    best_trial: "best: {}; train it with `scanrnn train --config {}`", "最佳：{}；用 `scanrnn train --config {}` 训练";
    season: "season: {} rows", "季节长度：{} 行";
    chosen: "window: {} rows, normalised by {}; a linear map's MSE on the validation windows: {}",
        "窗口：{} 行，按 {} 归一化；线性映射在验证窗口上的均方误差：{}";
    never_better: "{}: no epoch of {} was 1 % better than the start, whose parameters are kept.",
        "{}：{} 轮训练都没有比起点好 1 %；保留起点的参数。";
    starts_kept: "{}: in {} of {} trainings no epoch was 1 % better than the start, whose parameters are kept.",
        "{}：{} 次训练（共 {} 次）都没有一轮比起点好 1 %；保留起点的参数。";
    trial_number: "trial {}", "试验 {}";
    rows_left_out: "the shares of --split {} sum to less than 1: the newest {} % of the rows are left out",
        "--split {} 的份额之和小于 1：略去最新的 {} % 行";
    series_of: "{}: {}", "{}：{}";
    stopped: "{}: stopped after epoch {}; the parameters are those of epoch {}.", "{}：在第 {} 轮后停止；参数取自第 {} 轮。";
    made_up: "SYNTHETIC DATA: no market ever quoted these values.", "合成数据：没有任何市场报过这些价格。";
    epoch_line: "{}  epoch {}  train MSE {}  valid MSE {}", "{}  第 {} 轮  训练 MSE {}  验证 MSE {}";
    seconds: "seconds", "秒";
    over_seeds: "Means over {} seeds, +- the standard deviation, in scaled units; seconds are the sum of all trainings.",
        "{} 个随机种子的均值，+- 为标准差，缩放后单位；秒数为全部训练之和。";
    seed_line: "{}, seed {}: MSE {} in {} s", "{}，种子 {}：MSE {}，用时 {} 秒";
    origin_column: "origin", "起点";
    training_rows: "training rows", "训练行数";
    windows: "windows", "窗口数";
    persistence_mse: "persistence MSE", "持续性 MSE";
    best_epoch: "best epoch", "最佳轮次";
    origin_line: "origin {}  {}  MSE {}  {} times that of persistence", "起点 {}  {}  MSE {}  为持续性的 {} 倍";
    mean_of_origins: "mean of {} origins", "{} 个起点的均值";
    over_origins: "MSE / persistence: {} +- {} over {} origins.", "MSE / 持续性：{} +- {}，共 {} 个起点。";
    lost_at: "{} is worse than persistence (the last value again) at {} of them.", "{} 在其中 {} 个起点上不如持续性基准（重复上一个值）。";
    refit: "Trained and scaled anew at each origin, with early stopping of its own.", "每个起点都重新训练、缩放和早停。";
    no_refit: "Trained at the first origin only.", "只在第一个起点训练。";
    expanding: "Each origin uses all rows before it.", "使用起点之前的全部行。";
    sliding: "Each origin uses only the last rows before it.", "只使用起点之前最近的行。";
    picture: "picture: {}", "图片：{}";
    pictures: "pictures: {}, and one of each origin in the same folder", "图片：{}，以及每个起点一张";
    figures: "figures: {}", "数据：{}";
    checkpoint: "checkpoint: {}", "检查点：{}";
    run_and_report: "run: {}, report: {}", "运行目录：{}，报告：{}";
    forecast_rows: "forecast: {} rows of {} in {}", "预测：{} 行 {}，已写入 {}";
    interrupted: "interrupted after {} of {} steps; go on with `scanrnn train --resume {}`",
        "已在 {} / {} 步后中断；继续请运行 `scanrnn train --resume {}`";
    error: "error: {}", "错误：{}";
    tip: "  tip: {}", "  提示：{}";
    more_help: "For more information, try '--help'.", "更多信息请用 '--help'。";
    quantiles_beyond: "beyond row {} the quantile bands are too narrow, because they assume that earlier forecasts are exact; train with --horizon {} for valid bands",
        "第 {} 行之后分位数区间过窄，因为它假定之前的预测完全准确；如需有效的区间，请用 --horizon {} 训练";
    scored_on_training: "some of the scored rows were seen in training, if these are its series with --split {}",
        "计分的行中有训练时见过的行（若训练用的是这些序列和 --split {}）";
    no_dates_ahead: "the dates of {} have no regular step to continue; rows are numbered instead", "{} 的日期没有固定步长，无法延续：改为给行编号";
    flat_in_float32: "float32 has too few digits for {}, whose values become all the same; choose another --scaler",
        "float32 的位数不足以表示 {}，其值全都变得相同；请换一种 --scaler";
    warning: "warning: {}", "警告：{}";
    taken: "{}: {} tensors read into the backbone, {} in the file not used; the other {} start as usual",
        "{}：读入 {} 个张量作为主干，文件中 {} 个未用；其余 {} 个照常初始化";
    steps_left: "{pos}/{len} steps, {eta} left", "{pos}/{len} 步，剩余 {eta}";
    on_device: "{} on {}", "{}（{}）";
    with_seed: "{}, seed {}", "{}，种子 {}";
    at_origin: "{}, origin {} of {}: {}", "{}，起点 {} / {}：{}";
    case_passed: "ok      {} {}", "通过    {} {}";
    case_failed: "FAILED  {} {}", "失败    {} {}";
    cases: "{} passed, {} failed", "通过 {} 个，失败 {} 个";
    compared: "compared with the reference: {} largest error {}, allowed {}", "与参考实现比较：{} 最大误差 {}，容许 {}";
    nothing_timed: "the result is wrong: nothing is timed", "结果有误：不计时";
    median_ms: "median ms", "毫秒（中位数）";
    of_copy: "of a copy", "与复制之比";
    floor_ms: "floor ms", "下限毫秒";
    of_floor: "floor / time", "下限与用时之比";
    limits: "the device at most: copies {} GB/s, multiply-adds {} GFLOP/s, {} billion exponentials a second",
        "设备上限：复制 {} GB/s，乘加 {} GFLOP/s，指数每秒 {} 十亿次";
    forward: "forward", "前向";
    forward_backward: "forward and backward", "前向与反向";
    op: "op", "操作";
    sizes: "sizes", "尺寸";
    fastest: "fastest", "最快";
    each_kernel: "ms of each kernel", "各内核的毫秒数";
    table: "table: {}", "表：{}";
    kernel_wrong: "{}={} is wrong at {}: {} differs by {}, allowed {}", "{}={} 在 {} 处有误：{} 相差 {}，容许 {}";
    profiled: "{}: {} ms, {}", "{}：{} 毫秒，{}";
    by_timestamps: "by the GPU's timestamps", "按 GPU 的时间戳";
    by_waits: "each kernel was submitted and waited for separately, as this adapter has no timestamps; the times include the submissions",
        "每个内核单独提交并等待：此适配器没有时间戳，时间含提交的开销";
    by_processor: "by the processor's clock around each operation", "按处理器时钟，逐个操作";
    operation_kernel: "operation, kernel", "操作、内核";
    calls: "calls", "次数";
    ms: "ms", "毫秒";
    share: "share", "占比";
    trace: "trace: {} (open it in chrome://tracing or ui.perfetto.dev)", "跟踪文件：{}（在 chrome://tracing 或 ui.perfetto.dev 中打开）";
    index: "index", "序号";
    name: "name", "名称";
    backend: "backend", "后端";
    kind: "type", "类型";
    driver: "driver", "驱动";
    storage_buffers: "storage buffers", "存储缓冲区";
    binding: "binding MiB", "绑定 MiB";
    workgroup_memory: "workgroup KiB", "工作组 KiB";
    invocations: "invocations", "调用数";
    subgroup: "subgroup", "子组";
    cooperative: "matrices", "协作矩阵";
    timestamps: "timestamps", "时间戳";
    yes: "yes", "有";
    no: "no", "无";
    between: "{} to {}", "{} 至 {}";
    software_kind: "{} (software)", "{}（软件）";
    no_adapter: "no adapter; on Debian and Ubuntu `apt install mesa-vulkan-drivers` brings a software one",
        "没有适配器；在 Debian 和 Ubuntu 上 `apt install mesa-vulkan-drivers` 可安装软件实现";
    no_finite_values: "no finite values", "没有有限的数值";
    no_glyph: "characters of the picture that no font of this system has are drawn as ?", "图片中有本系统字体所没有的字符，已画成 ?";
    no_font: "no font with Chinese characters was found: the picture is in English (install one, such as Debian's fonts-noto-cjk)",
        "没有找到中文字体：图片使用英文（请安装字体，例如 Debian 的 fonts-noto-cjk）";
}

/// Puts each of `values` where `text` has the next `{}`.
pub fn fill<const N: usize>(text: &str, values: [&str; N]) -> String {
    crate::message::fill(text, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_counted() {
        let names: Vec<String> = (0..120).map(|number| format!("c{number}")).collect();
        assert_eq!(Lang::En.list(&names[..5]), "c0, c1, c2, c3, c4");
        assert_eq!(Lang::En.list(&names), "c0, c1, c2, c3 and 116 more");
        assert_eq!(Lang::En.list(&names[..0]), "");
    }
}
