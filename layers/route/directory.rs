//! The topics of all services as clients see them: each in a service that the rules give for its name.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
use kernel::service::Service;
use kernel::{TopicId, TopicPartition};

use super::rules::Rules;

/// Finds topics in the services that the rules give for them. A topic whose name is routed to another service
/// than the one that has it is left out: no client could reach it.
///
/// Services hold it as well (see [`Service::set_directory`]), so its references to them are weak.
pub(super) struct RoutedDirectory {
    rules: Arc<Rules>,
    services: Vec<(String, Weak<dyn Service>)>,
}

impl RoutedDirectory {
    pub(super) fn new(rules: Arc<Rules>, services: &[(String, Arc<dyn Service>)]) -> Self {
        let services =
            services.iter().map(|(name, service)| (name.clone(), Arc::downgrade(service))).collect();
        Self { rules, services }
    }

    fn topics(&self, service: usize) -> Result<Arc<dyn TopicDirectory>, String> {
        let (name, service) = &self.services[service];
        let service = service.upgrade().ok_or_else(|| format!("the service {name:?} has been closed"))?;
        Ok(service.topics())
    }

    /// Filters out topics that no client could reach in this service.
    fn reachable(&self, service: usize, mut topics: Vec<TopicFacts>) -> Vec<TopicFacts> {
        topics.retain(|topic| self.rules.services_of_topic(&topic.name).contains(&service));
        topics
    }

    async fn by_name_of(&self, service: usize, names: Vec<Arc<str>>) -> Result<Vec<TopicFacts>, String> {
        let topics = self.topics(service)?;
        topics.by_name(names).await
    }

    async fn by_id_of(&self, service: usize, ids: Vec<TopicId>) -> Result<Vec<(usize, TopicFacts)>, String> {
        let topics = self.topics(service)?;
        let found = topics.by_id(ids).await?;
        Ok(self.reachable(service, found).into_iter().map(|topic| (service, topic)).collect())
    }

    async fn all_of(&self, service: usize) -> Result<Vec<TopicFacts>, String> {
        let topics = self.topics(service)?;
        let found = topics.all().await?;
        Ok(self.reachable(service, found))
    }

    async fn find_names(&self, names: Vec<Arc<str>>) -> Result<Vec<TopicFacts>, String> {
        let mut by_service = vec![Vec::new(); self.services.len()];
        for name in &names {
            for service in self.rules.services_of_topic(name) {
                by_service[service].push(Arc::clone(name));
            }
        }
        let mut asked = Vec::new();
        for (service, names) in by_service.into_iter().enumerate() {
            if !names.is_empty() {
                asked.push(async move { Ok::<_, String>((service, self.by_name_of(service, names).await?)) });
            }
        }
        // Several services may have a topic of one name; the one that the rules name first counts.
        let mut found: HashMap<Arc<str>, (usize, TopicFacts)> = HashMap::new();
        for (service, topics) in try_join_all(asked).await? {
            for topic in topics {
                let services = self.rules.services_of_topic(&topic.name);
                let rank = services.iter().position(|one| *one == service).unwrap_or(usize::MAX);
                match found.get(&topic.name) {
                    Some((better, _)) if *better <= rank => {}
                    _ => drop(found.insert(Arc::clone(&topic.name), (rank, topic))),
                }
            }
        }
        Ok(found.into_values().map(|(_, topic)| topic).collect())
    }

    /// Queries the services concurrently and returns when every id is known, so that an unresponsive one
    /// delays only the calls that need it.
    ///
    /// Each topic comes with the service that has it.
    pub(super) async fn find_ids(&self, mut ids: Vec<TopicId>) -> Result<Vec<(usize, TopicFacts)>, String> {
        ids.sort_unstable();
        ids.dedup();
        let mut asked = FuturesUnordered::new();
        for service in 0..self.services.len() {
            asked.push(self.by_id_of(service, ids.clone()));
        }
        let mut found = Vec::new();
        let mut failure = None;
        while found.len() < ids.len()
            && let Some(answer) = asked.next().await
        {
            match answer {
                Ok(topics) => found.extend(topics),
                Err(cause) => failure = Some(cause),
            }
        }
        match failure {
            // A service that did not answer may have the missing topics.
            Some(cause) if found.len() < ids.len() => Err(cause),
            _ => Ok(found),
        }
    }

    /// A partition is in one service, by the id of its topic.
    async fn find_ends(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Option<i64>>, String> {
        let mut asked = Vec::new();
        for service in 0..self.services.len() {
            let (topics, partitions) = (self.topics(service)?, partitions.clone());
            asked.push(async move { topics.ends(partitions).await });
        }
        let mut ends = vec![None; partitions.len()];
        for found in try_join_all(asked).await? {
            for (end, found) in ends.iter_mut().zip(found) {
                *end = end.or(found);
            }
        }
        Ok(ends)
    }

    async fn find_all(&self) -> Result<Vec<TopicFacts>, String> {
        let mut asked = Vec::new();
        for service in 0..self.services.len() {
            asked.push(self.all_of(service));
        }
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }
}

impl TopicDirectory for RoutedDirectory {
    fn by_name(&self, names: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        Box::pin(self.find_names(names))
    }

    fn by_id(&self, ids: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        Box::pin(async move { Ok(self.find_ids(ids).await?.into_iter().map(|(_, topic)| topic).collect()) })
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        Box::pin(self.find_all())
    }

    fn ends(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'_, Result<Vec<Option<i64>>, String>> {
        Box::pin(self.find_ends(partitions))
    }

    fn version(&self) -> u64 {
        // The numbers of all services come from one counter, so a change of any of them is a new maximum.
        let versions =
            (0..self.services.len()).filter_map(|service| Some(self.topics(service).ok()?.version()));
        versions.max().unwrap_or_default()
    }
}
