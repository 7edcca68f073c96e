//! Every text that is shown, in every language.

/// A language of pictures and messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// The texts in this language.
    pub fn texts(self) -> &'static Texts {
        match self {
            Lang::En => &EN,
            Lang::Zh => &ZH,
        }
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
    in_unit: "{} ({})", "{}（{}）";
    settings: "window {}  ·  hidden {}  ·  batch {}  ·  {} epochs", "窗口 {}  ·  隐藏 {}  ·  批量 {}  ·  {} 轮";
    date: "date", "日期";
    mse: "MSE in scaled units", "均方误差（缩放后单位）";
    errors_over_seeds: "Errors over {} seeds: mean, and its deviation", "{} 个随机种子的误差：均值与标准差";
    error_by_step: "Error by steps ahead", "各预测步的误差";
    steps_ahead: "steps ahead", "预测步数";
    curves: "Loss per epoch: training (dashed), validation", "每轮损失：训练（虚线）、验证";
    ahead: "window {}  ·  {} steps ahead", "窗口 {}  ·  向前 {} 步";
    origin: "{}: forecasts from {} on", "{}：自 {} 起的预测";
    against: "MSE {}, {} times that of persistence", "均方误差 {}，为持续性基准的 {} 倍";
    error_by_origin: "Error at each origin, against persistence", "各起点的误差（相对持续性基准）";
    forecast_title: "{}: the next {} rows", "{}：未来 {} 行";
    band: "band: levels {} to {}", "区间：分位数 {} 至 {}";
    recursive: "beyond {} rows from the model's own forecasts", "{} 行之后由模型自身的预测递推";
    no_finite_values: "no finite values", "没有有限的数值";
    no_font: "no font with Chinese characters was found: the picture is in English (install one, such as Debian's fonts-noto-cjk)",
        "没有找到中文字体：图片使用英文（请安装字体，例如 Debian 的 fonts-noto-cjk）";
}

/// Puts each of `values` where `text` has the next `{}`.
pub fn fill<const N: usize>(text: &str, values: [&str; N]) -> String {
    let mut pieces = text.split("{}");
    let mut filled = pieces.next().unwrap_or_default().to_string();
    for (value, piece) in values.into_iter().zip(pieces) {
        filled += value;
        filled += piece;
    }
    filled
}
