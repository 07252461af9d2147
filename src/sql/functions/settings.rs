//! `current_setting` and `set_config`: the functions beside SHOW and SET, under the same rules.

use std::{hash::Hash, sync::Arc};

use datafusion::{
    arrow::{array::StringArray, datatypes::DataType},
    common::{Result as DfResult, ScalarValue},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use parking_lot::Mutex;

use crate::{
    error::Result,
    sql::settings::{self, Settings},
};

/// Both functions over one session's settings.
pub(in crate::sql) fn bound(settings: &Arc<Mutex<Settings>>) -> Vec<Arc<ScalarUDF>> {
    let make = |name, arguments: &[usize]| {
        let any = |n: &usize| datafusion::logical_expr::TypeSignature::Any(*n);
        let signature = Signature::one_of(arguments.iter().map(any).collect(), Volatility::Volatile);
        Arc::new(ScalarUDF::from(SettingFunction {
            name,
            settings: settings.clone(),
            signature,
        }))
    };
    vec![make("current_setting", &[1, 2]), make("set_config", &[3])]
}

#[derive(Debug)]
struct SettingFunction {
    name: &'static str,
    settings: Arc<Mutex<Settings>>,
    signature: Signature,
}

impl PartialEq for SettingFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.settings, &other.settings)
    }
}

impl Eq for SettingFunction {}

impl Hash for SettingFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl SettingFunction {
    fn call(&self, args: &[ScalarValue]) -> Result<Option<String>> {
        let text = |i: usize| match args.get(i).and_then(|v| v.cast_to(&DataType::Utf8).ok()) {
            Some(ScalarValue::Utf8(text)) => text,
            _ => None,
        };
        let truth = |i: usize| matches!(args.get(i), Some(ScalarValue::Boolean(Some(true))));
        let Some(name) = text(0) else { return Ok(None) };
        let mut settings = self.settings.lock();
        if self.name == "current_setting" {
            return match settings::find(&name) {
                Ok(setting) => Ok(Some(settings.get(setting))),
                Err(_) if truth(1) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let value = text(1).unwrap_or_default();
        let asker = settings.asker;
        let reported = settings.set(&name, &value, truth(2), asker)?;
        settings.reported.extend(reported);
        Ok(Some(settings.get(settings::find(&name)?)))
    }
}

impl ScalarUDFImpl for SettingFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let row = |row: usize| -> DfResult<Option<String>> {
            let values = args
                .args
                .iter()
                .map(|arg| match arg {
                    ColumnarValue::Scalar(value) => Ok(value.clone()),
                    ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
                })
                .collect::<DfResult<Vec<_>>>()?;
            Ok(self.call(&values)?)
        };
        if args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) {
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(row(0)?)));
        }
        let values: StringArray = (0..args.number_rows).map(row).collect::<DfResult<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}
